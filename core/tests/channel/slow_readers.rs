//! Readers that take their time.

use std::sync::Arc;

use bytes::Bytes;
use mesh_daemon_core::channel::{
    ChannelConfig, ChannelObserver, Channels, MAX_UNREAD_BYTES, ReaderId, STALLED, Subnet,
};
use mesh_daemon_core::identity::EntityKeypair;
use mesh_daemon_core::mesh::{MeshConfig, MeshNode};
use mesh_daemon_core::session::Psk;

use crate::net::{RELIABLE, feed, name};

const MIB: usize = 1024 * 1024;

struct Unheard;

impl ChannelObserver for Unheard {
    fn readable(&self, _: ReaderId) {}
}

#[tokio::test(start_paused = true)]
async fn who_reads_one_message_after_the_other_is_not_put_out_while_the_next_one_has_to_wait_for_room() {
    let config = MeshConfig::new("127.0.0.1:0", Psk::new([7; 32]), EntityKeypair::generate());
    let mesh = MeshNode::create(config).await.expect("a free port");
    mesh.start();
    let channels =
        Channels::create(&mesh, Subnet::default(), 16 * MIB as u64, Arc::new(Unheard)).expect("the first on this node");
    channels.register(ChannelConfig::new(name("a"))).expect("registered");
    let (reader, let_in) = channels.open_reader(mesh.node_id(), &feed("a"), None);
    let_in.await.expect("let in");
    channels.attend(reader, true);
    // It has all that it may have before it, and those that come next are as large as eight of these.
    let filling = vec![Bytes::from(vec![0; MIB]); MAX_UNREAD_BYTES / MIB];
    for payload in filling.into_iter().chain(vec![Bytes::from(vec![0; 8 * MIB]); 2]) {
        channels.publish(&name("a"), &payload, None, RELIABLE, |_| ());
    }
    for _ in 0..8 {
        tokio::time::sleep(STALLED / 5).await;
        assert_eq!(channels.read(reader, 1, MIB / 2).len(), 1);
    }
    assert!(!channels.is_over(reader), "it has read all the time");
    tokio::time::sleep(2 * STALLED).await;
    assert!(channels.is_over(reader), "it reads no more");
    channels.close();
    mesh.shutdown().await;
}
