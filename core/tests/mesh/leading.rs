//! The handler that leads: what it has to write comes before what others have.

use std::sync::Arc;
use std::time::Duration;

use mesh_daemon_core::identity::NodeId;
use mesh_daemon_core::mesh::{MeshNode, PeerEvent, Record, RecordSink, SubprotocolHandler};
use mesh_daemon_core::wire::{Lane, Subprotocol};
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::support::{HANG, config, node};

/// Has a word for its peer from the start, and tells when it is asked for it.
struct Eager {
    word: Mutex<bool>,
    asked: std::sync::mpsc::Sender<()>,
}

/// Has a word only once it knows that records flow; what has been written by then is too early.
struct Leading {
    node: MeshNode,
    word: Mutex<bool>,
    asked: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl SubprotocolHandler for Eager {
    fn records(&self, _: NodeId, _: Lane, _: &mut Vec<Record>) {}

    fn peer(&self, _: &PeerEvent) {}

    fn fill(&self, _: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        if lane == Lane::Fast && std::mem::take(&mut *self.word.lock()) {
            sink.record(Subprotocol::Events, &mut |out| out.extend_from_slice(b"second"));
        }
        let _ = self.asked.send(());
        false
    }
}

impl SubprotocolHandler for Leading {
    fn records(&self, _: NodeId, _: Lane, _: &mut Vec<Record>) {}

    fn peer(&self, event: &PeerEvent) {
        if let PeerEvent::Ready { node } = event {
            // Gives the writer every chance to be too early.
            self.node.wake(*node);
            let _ = self.asked.lock().recv_timeout(Duration::from_millis(300));
            *self.word.lock() = true;
        }
    }

    fn fill(&self, _: NodeId, lane: Lane, sink: &mut dyn RecordSink) -> bool {
        if lane == Lane::Fast && std::mem::take(&mut *self.word.lock()) {
            sink.record(Subprotocol::Capabilities, &mut |out| out.extend_from_slice(b"first"));
        }
        false
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hazard_47_nothing_is_written_before_whoever_leads_knows_that_records_flow() {
    let (a, b) = (node(config()).await, MeshNode::create(config()).await.expect("a free port"));
    let (asked, was_asked) = std::sync::mpsc::channel();
    let leading = Leading { node: a.clone(), word: Mutex::new(false), asked: Mutex::new(was_asked) };
    a.install(Arc::new(leading), &[Subprotocol::Capabilities]).expect("nobody else is installed");
    a.install(Arc::new(Eager { word: Mutex::new(true), asked }), &[Subprotocol::Events]).expect("nobody else");
    let (heard, mut words_heard) = tokio::sync::mpsc::unbounded_channel();
    b.install(Arc::new(Hearing(heard)), &[Subprotocol::Events, Subprotocol::Capabilities]).expect("nobody else");
    a.connect(&b.local_addr().to_string(), None, None).await.expect("a session");
    b.start();
    let mut words = Vec::new();
    while words.len() < 2 {
        words.push(timeout(HANG, words_heard.recv()).await.expect("it comes").expect("the handler lives"));
    }
    assert_eq!(words, [b"first".as_slice(), b"second".as_slice()]);
    a.shutdown().await;
    b.shutdown().await;
}

/// Passes on what it hears.
struct Hearing(tokio::sync::mpsc::UnboundedSender<Vec<u8>>);

impl SubprotocolHandler for Hearing {
    fn records(&self, _: NodeId, _: Lane, records: &mut Vec<Record>) {
        records.drain(..).for_each(|record| drop(self.0.send(record.body.to_vec())));
    }

    fn peer(&self, _: &PeerEvent) {}

    fn fill(&self, _: NodeId, _: Lane, _: &mut dyn RecordSink) -> bool {
        false
    }
}
