//! What encryption costs: AES-256-GCM beside ChaCha20-Poly1305, both through snow with ring, small and large frames.
//!
//! `cargo run --release -p mesh-daemon-core --example noise_cost`

use std::time::Duration;

use tokio::time::Instant;

use snow::{Builder, TransportState};

const ROUNDS: usize = 7;
const SLICE: Duration = Duration::from_millis(200);

fn pair(cipher: &str) -> (TransportState, TransportState) {
    let pattern = format!("Noise_XXpsk0+psk3_25519_{cipher}_BLAKE2s");
    let psk = [7; 32];
    let builder = || {
        let params = pattern.parse().expect("a pattern that snow knows");
        Builder::new(params).psk(0, &psk).and_then(|builder| builder.psk(3, &psk)).expect("two keys")
    };
    let (one, other) = (builder().generate_keypair().expect("keys"), builder().generate_keypair().expect("keys"));
    let mut dialler = builder().local_private_key(&one.private).and_then(Builder::build_initiator).expect("a dialler");
    let mut listener =
        builder().local_private_key(&other.private).and_then(Builder::build_responder).expect("a listener");
    let (mut message, mut payload) = ([0; 1024], [0; 1024]);
    for turn in 0..3 {
        let (from, to) = if turn == 1 { (&mut listener, &mut dialler) } else { (&mut dialler, &mut listener) };
        let len = from.write_message(&[], &mut message).expect("its turn");
        to.read_message(&message[..len], &mut payload).expect("the same keys");
    }
    (dialler.into_transport_mode().expect("done"), listener.into_transport_mode().expect("done"))
}

/// Seconds to seal and open one frame of `len` bytes.
fn cost(cipher: &str, len: usize) -> f64 {
    let (mut one, mut other) = pair(cipher);
    let plaintext = vec![1; len];
    let (mut sealed, mut opened) = (vec![0; len + 16], vec![0; len + 16]);
    let start = Instant::now();
    let mut frames = 0_u32;
    while start.elapsed() < SLICE {
        for _ in 0..16 {
            let sealed_len = one.write_message(&plaintext, &mut sealed).expect("fits");
            let opened_len = other.read_message(&sealed[..sealed_len], &mut opened).expect("opens");
            assert_eq!(opened_len, len);
        }
        frames += 16;
    }
    start.elapsed().as_secs_f64() / f64::from(frames)
}

fn main() {
    println!("seal + open of one frame on one core, median of {ROUNDS} alternating rounds");
    for len in [128_usize, 16 * 1024, 65_519] {
        let (mut aes, mut chacha) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            aes.push(cost("AESGCM", len));
            chacha.push(cost("ChaChaPoly", len));
        }
        aes.sort_by(f64::total_cmp);
        chacha.sort_by(f64::total_cmp);
        let (aes, chacha) = (aes[ROUNDS / 2], chacha[ROUNDS / 2]);
        #[allow(clippy::cast_precision_loss)] // lengths are small
        let rate = |seconds: f64| len as f64 / seconds / 1e9;
        println!(
            "{len:>6} B   AES-256-GCM {:>7.3} µs {:>5.2} GB/s   ChaCha20-Poly1305 {:>7.3} µs {:>5.2} GB/s   ratio {:.2}",
            aes * 1e6,
            rate(aes),
            chacha * 1e6,
            rate(chacha),
            chacha / aes
        );
    }
}
