//! Messages of the directory (subprotocol 0x0600).

use minicbor::decode::{Decoder, Error};
use minicbor::{Decode, Encode};

use super::MAX_RECORD_BODY;
use super::codec::bounded_array;
use crate::identity::{Epoch, NodeId, OriginHash};

/// Most daemons that one message names.
pub const MOST_NAMED: usize = 4096;
/// Most pairs, of a daemon and a node or an epoch, that a node says in one message: that has to fit a record.
pub const MOST_PAIRS: usize = 2048;
const _: () = assert!(MOST_PAIRS * PAIR_LEN + HEAD_LEN <= MAX_RECORD_BODY, "a message of pairs fits a record");
/// Most bytes that a pair takes: the head of an array and two numbers.
const PAIR_LEN: usize = 1 + 9 + 9;
/// Most bytes around them.
const HEAD_LEN: usize = 16;
/// Most hosts that an answer names.
pub const MOST_HOSTS: usize = 8;

/// A message of the directory.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum DirectoryMessage<'b> {
    /// Who hosts this daemon?
    #[n(0)]
    Lookup {
        /// The asker's number for the question.
        #[n(0)]
        query: u64,
        /// The daemon's address.
        #[n(1)]
        origin: OriginHash,
        /// The members that the asker sees, by name; none when it takes no part in the membership.
        #[n(2)]
        view: Option<u64>,
        /// The asker is about to host it, and is to be remembered for that.
        #[n(3)]
        hosting: Option<bool>,
    },
    /// The best claim that the answerer holds, encoded; none when it knows of no host.
    #[n(1)]
    Answer {
        /// The asker's number.
        #[n(0)]
        query: u64,
        /// A signed claim.
        #[b(1)]
        #[cbor(with = "minicbor::bytes")]
        claim: Option<&'b [u8]>,
        /// Nodes that say that they host it: to be asked for their claims. Those that find no place here are named as
        /// [`Rivals`](Self::Rivals) before.
        #[n(2)]
        hosts: Option<Few>,
        /// Every member that both see has named its daemons to the answerer. Without that, knowing of none says nothing.
        #[n(3)]
        settled: Option<bool>,
        /// Instead of a claim: the last one that it knows of, whose host is out of its reach. Who begins the daemon anew begins
        /// later than that.
        #[b(4)]
        #[cbor(with = "minicbor::bytes")]
        former: Option<&'b [u8]>,
        /// The answerer holds a copy of which it does not know whether it is the one that lives: if the host that its claim
        /// names is dead, that one may yet go on.
        #[n(5)]
        doubt: Option<bool>,
    },
    /// Unasked: a daemon was taken over, or lives on at a later epoch than the receiver said.
    #[n(2)]
    Claim {
        /// A signed claim.
        #[b(0)]
        #[cbor(with = "minicbor::bytes")]
        claim: &'b [u8],
    },
    /// To a home node: daemons of the sender.
    #[n(3)]
    Place {
        /// Nothing that the sender named before counts any more.
        #[n(0)]
        anew: bool,
        /// Daemons that it hosts.
        #[n(1)]
        #[cbor(decode_with = "read_named")]
        hosted: Vec<OriginHash>,
        /// Daemons that it does not host any more, or that have another home.
        #[n(2)]
        #[cbor(decode_with = "read_named")]
        gone: Vec<OriginHash>,
        /// All that it hosts is named, for the view of this name.
        #[n(3)]
        settled: Option<u64>,
        /// Between which runtimes. One knows nothing of what was said to its forerunner, and hosts nothing of what that named.
        #[n(4)]
        between: Between,
    },
    /// Others say as well that they host these daemons, as the sender knows, a home perhaps. The receiver is to show them its
    /// claims; of a daemon that it has asked the sender for, it is to ask them.
    #[n(4)]
    Rivals {
        /// Which ones.
        #[n(0)]
        #[cbor(decode_with = "read_rivals")]
        rivals: Vec<Rival>,
    },
    /// To a peer that shares no homes with the sender: how many daemons the sender hosts. Whoever hosts fewer names its own, so
    /// that the other one can compare.
    #[n(5)]
    Tally {
        /// How many.
        #[n(0)]
        hosted: u64,
        /// An answer: the receiver hosts fewer, and is to name them.
        #[n(1)]
        yours: bool,
        /// The receiver was a member for the sender when it said how many it hosts, if it did: it is to say so again.
        #[cbor(n(2), default)]
        anew: bool,
    },
    /// To a peer that shares no homes with the sender, and hosts more: daemons of the sender.
    #[n(6)]
    Hosting {
        /// Which ones.
        #[n(0)]
        #[cbor(decode_with = "read_hosted")]
        hosted: Vec<Hosted>,
    },
}

/// The runtimes of two nodes between which a message is, each counted in the life of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Between {
    /// The sender's.
    #[n(0)]
    pub from: u32,
    /// The receiver's, as far as the sender knows.
    #[n(1)]
    pub to: u32,
}

/// A daemon that the sender hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Hosted {
    /// Which one.
    #[n(0)]
    pub origin: OriginHash,
    /// At which epoch.
    #[n(1)]
    pub epoch: Epoch,
}

/// A daemon that another node says it hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Rival {
    /// Which one.
    #[n(0)]
    pub origin: OriginHash,
    /// Who.
    #[n(1)]
    pub host: NodeId,
}

/// A few nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Few(
    #[n(0)]
    #[cbor(decode_with = "few")]
    pub Vec<NodeId>,
);

fn few<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<NodeId>, Error> {
    bounded_array(d, MOST_HOSTS as u64, "hosts")
}

fn read_named<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<OriginHash>, Error> {
    bounded_array(d, MOST_NAMED as u64, "daemons")
}

fn read_rivals<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Rival>, Error> {
    bounded_array(d, MOST_NAMED as u64, "rivals")
}

fn read_hosted<C>(d: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Hosted>, Error> {
    bounded_array(d, MOST_NAMED as u64, "daemons")
}
