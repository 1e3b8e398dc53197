//! What must hold of the peer events of every node, whatever the network does.

use std::collections::HashMap;

use mesh_daemon_core::identity::Incarnation;
use mesh_daemon_core::mesh::{Loss, PeerEvent};
use mesh_daemon_core::session::SessionId;

#[derive(Default)]
pub(crate) struct Witness {
    seen: HashMap<(usize, usize), Seen>,
    /// The session with which began what a node shares with another one.
    began: HashMap<(usize, usize), SessionId>,
    /// The same of each session, as the side has it that had the session first.
    sessions: HashMap<SessionId, SessionId>,
    pub(crate) connected: usize,
    pub(crate) resumed: usize,
    pub(crate) heard: usize,
    pub(crate) newer: usize,
    pub(crate) silent: usize,
    pub(crate) both_sided: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    Connected(Incarnation),
    Silent(Incarnation),
    Cut(Incarnation),
    Lost(Incarnation),
}

impl Witness {
    /// The node has a new process, which remembers nothing.
    pub(crate) fn forget(&mut self, node: usize) {
        self.seen.retain(|(observer, _), _| *observer != node);
        self.began.retain(|(observer, _), _| *observer != node);
    }

    /// One side of a session came up.
    pub(crate) fn session(&mut self, observer: usize, peer: usize, session: SessionId, resumed: bool) {
        if !resumed {
            self.began.insert((observer, peer), session);
        }
        let began = *self.began.get(&(observer, peer)).expect("what goes on began once");
        if let Some(there) = self.sessions.insert(session, began) {
            assert_eq!(there, began, "both sides of {session:?} go on with what began together");
            self.both_sided += 1;
        }
    }

    pub(crate) fn event(&mut self, observer: usize, peer: usize, event: &PeerEvent) {
        let before = self.seen.get(&(observer, peer)).copied();
        let after = match event {
            PeerEvent::Connected { peer, resumed } => {
                self.connected += 1;
                match before {
                    None => assert!(!resumed),
                    Some(Seen::Connected(_)) => panic!("connected twice"),
                    Some(Seen::Silent(_)) => panic!("a new session, and nothing said of the old one"),
                    Some(Seen::Cut(life)) => {
                        assert!(resumed, "an end of the shared state is told as a loss first");
                        assert_eq!(life, peer.incarnation);
                        self.resumed += 1;
                    }
                    Some(Seen::Lost(life)) => {
                        assert!(!resumed);
                        assert!(life <= peer.incarnation, "an older life never comes back");
                    }
                }
                Seen::Connected(peer.incarnation)
            }
            PeerEvent::Ready { .. } => return,
            PeerEvent::Suspected { .. } => match before {
                Some(Seen::Connected(life)) => Seen::Silent(life),
                other => panic!("suspected after {other:?}"),
            },
            PeerEvent::Heard { .. } => match before {
                Some(Seen::Silent(life)) => {
                    self.heard += 1;
                    Seen::Connected(life)
                }
                other => panic!("heard again after {other:?}"),
            },
            PeerEvent::Cut { .. } => match before {
                Some(Seen::Silent(life)) => Seen::Cut(life),
                other => panic!("cut after {other:?}"),
            },
            PeerEvent::Lost { incarnation, how, .. } => {
                match before {
                    Some(Seen::Connected(life) | Seen::Silent(life) | Seen::Cut(life)) => {
                        assert_eq!(life, *incarnation);
                    }
                    other => panic!("lost after {other:?}"),
                }
                match how {
                    Loss::NewerIncarnation => self.newer += 1,
                    Loss::Silence => self.silent += 1,
                    Loss::Goodbye => {}
                }
                Seen::Lost(*incarnation)
            }
        };
        self.seen.insert((observer, peer), after);
    }
}
