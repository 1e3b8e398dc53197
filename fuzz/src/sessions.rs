//! The handshake and the transport behind it, between a node and somebody who sends anything at any step.

use std::cell::OnceCell;

use mesh_daemon_core::identity::Incarnation;
use mesh_daemon_core::session::{
    Answering, BULK_WINDOW, DialIntent, Dialling, Established, LocalIdentity, Psk, SendBuffer,
};
use mesh_daemon_core::wire::frame::PREFIX_LEN;

use super::identity::keypair;

const INTENT: DialIntent = DialIntent { attempt: 9, after: None, holds: None, ready: true };

thread_local! {
    static NODES: OnceCell<(LocalIdentity, LocalIdentity)> = const { OnceCell::new() };
}

fn with_nodes<T>(then: impl FnOnce(&LocalIdentity, &LocalIdentity) -> T) -> T {
    let node = |number| {
        let incarnation = Incarnation { started_at_ms: 5, salt: 6 };
        LocalIdentity::new(Psk::new([1; 32]), keypair(number), incarnation, 1_000, BULK_WINDOW).expect("can sign")
    };
    NODES.with(|nodes| {
        let (dialler, listener) = nodes.get_or_init(|| (node(1), node(2)));
        then(dialler, listener)
    })
}

/// What is done to a genuine message on its way.
struct Tampering<'a> {
    how: u8,
    with: &'a [u8],
}

impl Tampering<'_> {
    /// The message as it arrives.
    fn apply(&self, genuine: &[u8]) -> Vec<u8> {
        let mut arrives = genuine.to_vec();
        match self.how % 4 {
            0 => return self.with.to_vec(),
            1 => arrives.iter_mut().zip(self.with).for_each(|(byte, change)| *byte ^= change),
            2 => arrives.truncate(self.with.first().map_or(arrives.len(), |len| usize::from(*len))),
            _ => arrives.extend_from_slice(self.with),
        }
        arrives
    }
}

/// A handshake in which one message is replaced, changed, cut or prolonged: it fails at that step unless nothing changed.
///
/// The first byte says which message, the second one how, the rest with what.
pub fn handshake(data: &[u8]) -> bool {
    let Some((&[step, how], with)) = data.split_first_chunk::<2>() else { return false };
    let tampering = Tampering { how, with };
    let mut untouched = true;
    let mut pass = |at: u8, genuine: &[u8]| {
        if step % 4 != at {
            return genuine.to_vec();
        }
        let arrives = tampering.apply(genuine);
        untouched = arrives == genuine;
        arrives
    };
    let done = with_nodes(|dialler, listener| {
        let (dialling, first) = Dialling::start(dialler).ok()?;
        let (answering, answer) = Answering::start(listener, &pass(0, &first)).ok()?;
        let proven = dialling.read_answer(&pass(1, &answer)).ok()?;
        let (last, _) = proven.finish(INTENT).ok()?;
        let (established, intent) = answering.read_last(&pass(2, &last)).ok()?;
        assert_eq!((established.peer.entity, intent), (dialler.keypair().entity_id(), INTENT));
        Some(())
    });
    assert_eq!(done.is_some(), untouched, "a message is taken exactly when it is as it was sent");
    untouched
}

/// Frames behind a handshake, of which some are replaced, changed, cut or prolonged: the first of these ends the session.
///
/// The first byte says how many frames go before, the second one what is done to the next one, the rest with what.
pub fn transport(data: &[u8]) -> bool {
    let Some((&[before, how], with)) = data.split_first_chunk::<2>() else { return false };
    let (one, other) = with_nodes(establish);
    let (mut sealer, mut opener) = (one.transport.split().0, other.transport.split().1);
    let mut send = |plaintext: &[u8]| {
        let mut out = SendBuffer::new();
        sealer.seal(plaintext, &mut out).expect("a short plaintext");
        out.as_slice()[PREFIX_LEN..].to_vec()
    };
    for number in 0..before % 4 {
        let plaintext = [0, number];
        assert_eq!(opener.open(&send(&plaintext)).as_deref(), Ok(plaintext.as_slice()));
    }
    let plaintext = [&[1], &with[..with.len().min(1024)]].concat();
    let genuine = send(&plaintext);
    let arrives = Tampering { how, with }.apply(&genuine);
    let read = opener.open(&arrives);
    if arrives == genuine {
        assert_eq!(read.as_deref(), Ok(plaintext.as_slice()));
        return true;
    }
    assert!(read.is_err(), "a frame that was touched is refused");
    assert!(opener.open(&send(&[0])).is_err(), "nothing is read after that");
    false
}

fn establish(dialler: &LocalIdentity, listener: &LocalIdentity) -> (Established, Established) {
    let (dialling, first) = Dialling::start(dialler).expect("starts");
    let (answering, answer) = Answering::start(listener, &first).expect("the same key");
    let (last, one) = dialling.read_answer(&answer).expect("the same key").finish(INTENT).expect("finishes");
    (one, answering.read_last(&last).expect("the same key").0)
}
