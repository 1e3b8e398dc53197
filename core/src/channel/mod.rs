//! Channels: a node publishes, others subscribe.
//!
//! A channel belongs to the node that registered it. Its *roster* says which nodes, and which daemons on them, the publisher
//! lets in; every message goes once to each node of the roster, which hands it to its own subscribers. A message has the
//! number of its channel in this life of the publisher. Reliable ones are acknowledged, sent again after a reconnection,
//! and accepted once and in order; others are gone when the connection is.
//!
//! In a *queue group* each message goes to one member, a node or a daemon. Every member has a stream of its own, with its own
//! numbers and acknowledgements, which goes with it when it moves; what a member that is out has not acknowledged falls to
//! another one, as a later message of that one's stream.
//!
//! [`ChannelMachine`] is the protocol, without I/O: calls, records and peer events go in, records and [`ChannelEvent`]s
//! come out. [`Channels`] joins it to a mesh node and a clock.
//!
//! | file | holds |
//! |---|---|
//! | `config` | names, configuration, visibility by subnet |
//! | `feed` | what is subscribed to: a channel, or a queue group of it |
//! | `roster` | a channel of this node and whom it lets in |
//! | `gate` | who asks to be let in: the publisher's side of membership |
//! | `revocations` | tokens that their issuers took back: held, and passed on to every peer |
//! | `raises` | how often one peer may bring later ones of them |
//! | `capable` | what nodes have announced, and the gates that ask for it |
//! | `joining`, `questions` | the subscriber's side of it, and what it has to ask |
//! | `subscription`, `taken` | what has arrived of a stream, and how far each subscriber has come |
//! | `moving`, `ring` | daemons that go on from another node, and the messages that are kept for them |
//! | `holding`, `taking` | messages that daemons of this node have yet to take, and whose turn it is |
//! | `groups`, `sharing` | queue groups: whose turn it is, and what of a member that is out falls to others |
//! | `publishing` | messages that are being sent, and their reports |
//! | `stalling` | subscribers that take nothing |
//! | `transmit`, `receiving` | records out and in |
//! | `shell` | the machine on a node |
//! | `reader`, `readers`, `reading` | what readers have not read; who reads; whether that holds publishers up |
//! | `port`, `daemons` | what a daemon runtime asks of it |
//! | `kept` | what all of that keeps, counted |
//! | `ledger` | what a daemon has to do with channels, as it travels |

mod capable;
mod config;
mod daemons;
mod error;
mod feed;
mod gate;
mod groups;
mod holding;
mod joining;
mod kept;
mod ledger;
mod machine;
mod moving;
mod peers;
mod port;
mod publishing;
mod questions;
mod raises;
mod reader;
mod readers;
mod reading;
mod receiving;
mod revocations;
mod ring;
mod roster;
mod sharing;
mod shell;
mod stalling;
mod subscription;
mod taken;
mod taking;
mod throttle;
mod transmit;

pub use config::{ChannelConfig, ChannelId, ChannelName, Visibility};
pub use error::{ChannelError, Denial};
pub use feed::{Feed, GroupId, Share, StreamId};
pub use holding::DaemonSubscription;
pub use joining::subscription_statement;
pub use kept::Kept;
pub use ledger::ChannelLedger;
pub use machine::{
    ArrivedMessage, ChannelEvent, ChannelMachine, DaemonSubscriber, MAX_CHANNELS, Moment, Position, RequestId,
    SubscribeAs, Subscriber,
};
pub use port::{DaemonChannels, DaemonChannelsObserver};
pub use publishing::{OnFailure, PublishId, PublishOptions, PublishReport};
pub use reader::{MAX_UNREAD, MAX_UNREAD_BYTES, ReaderEnd, ReaderId};
pub use reading::ReadersRoom;
pub use revocations::{MAX_FOREIGN_REVOCATIONS, MAX_REVOCATIONS_FROM_PEER, MAX_TOKEN_SKEW};
pub use shell::{ChannelObserver, Channels, PublishResult};
pub use stalling::STALLED;
pub use throttle::{MAX_AUTH_FAILURES, THROTTLE};

pub use crate::capability::Subnet;
