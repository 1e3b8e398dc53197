//! Channels that are guarded by tokens only after somebody has come in.

use mesh_daemon_core::channel::{ChannelConfig, ChannelError, Denial, Subscriber};
use mesh_daemon_core::identity::EntityKeypair;

use crate::net::{Granted, Net, feed, open};

const P: usize = 0;
const S: usize = 1;

#[test]
fn whose_token_has_not_begun_is_out_when_its_channel_is_guarded_and_stays_when_it_was_guarded_before() {
    let (early, timely) = (EntityKeypair::from_seed(&[1; 32]), EntityKeypair::from_seed(&[2; 32]));
    let mut net = Net::connected(2);
    let hour = std::time::Duration::from_secs(3600);
    let gated = ChannelConfig { token_roots: vec![net.nodes[P].keypair.entity_id()], ..open("a") };
    net.register(P, open("a"));
    let now = net.token(P, &Granted { subject: &timely, channel: "a", ttl: 36_000 });
    net.now.unix += hour;
    let later = net.token(P, &Granted { subject: &early, channel: "a", ttl: 36_000 });
    net.now.unix -= hour;
    for (daemon, token) in [(&early, later), (&timely, now)] {
        net.subscribe(S, P, "a", Some(daemon), Some(&token)).expect("nobody asks for a token");
    }
    net.register(P, gated.clone());
    net.run();
    let why = ChannelError::Unauthorized { channel: "a".to_owned(), why: Denial::NotYetValid };
    assert_eq!(net.ends(S), [(Subscriber::Daemon(early.entity_id()), why)]);
    // The clock is set back behind the beginning of a token that was good.
    net.now.unix -= hour;
    net.register(P, ChannelConfig { priority: 1, ..gated });
    net.run();
    assert_eq!((net.ends(S), net.nodes[P].machine.roster(&feed("a")).len()), (vec![], 1));
}
