//! Bytes through Noise over one TCP connection: what a move of a large state is compared with.

use std::io::{BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use napi::bindgen_prelude::{AsyncTask, Env, Uint8Array};
use napi::{Error, Result, Task};
use napi_derive::napi;
use snow::{Builder, HandshakeState, TransportState};

/// The cipher and hash of mesh sessions; who speaks matters to no bulk.
const PATTERN: &str = "Noise_NN_25519_AESGCM_BLAKE2s";

/// Longest Noise message, and the bytes of its tag.
const FRAME: usize = 65_535;
const TAG: usize = 16;

/// Accepts connections on the port that it gives back. Each brings a length and so many bytes, which are assembled in
/// memory and acknowledged with one byte.
#[napi]
pub fn noise_sink() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Who connects sees that the connection broke.
            let _ = swallow(stream);
        }
    });
    Ok(port)
}

/// Sends bytes to such a port; resolves when they are acknowledged.
#[napi(ts_return_type = "Promise<void>")]
pub fn noise_push(port: u16, bytes: Uint8Array) -> AsyncTask<Push> {
    AsyncTask::new(Push { port, bytes })
}

/// The work of [`noise_push`].
pub struct Push {
    port: u16,
    bytes: Uint8Array,
}

impl Task for Push {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> Result<()> {
        push(self.port, &self.bytes)
    }

    fn resolve(&mut self, _: Env, (): ()) -> Result<()> {
        Ok(())
    }
}

fn push(port: u16, bytes: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.write_all(&(bytes.len() as u64).to_le_bytes()).map_err(failed)?;
    let initiator = Builder::new(PATTERN.parse().map_err(failed)?).build_initiator().map_err(failed)?;
    let mut noise = shake_hands(initiator, &mut stream)?;
    let mut frame = vec![0; 2 + FRAME];
    for part in bytes.chunks(FRAME - TAG) {
        let length = noise.write_message(part, &mut frame[2..]).map_err(failed)?;
        frame[..2].copy_from_slice(&u16::try_from(length).map_err(failed)?.to_le_bytes());
        stream.write_all(&frame[..2 + length]).map_err(failed)?;
    }
    stream.read_exact(&mut [0]).map_err(failed)
}

fn swallow(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true).map_err(failed)?;
    let mut length = [0; 8];
    stream.read_exact(&mut length).map_err(failed)?;
    let length = usize::try_from(u64::from_le_bytes(length)).map_err(failed)?;
    let responder = Builder::new(PATTERN.parse().map_err(failed)?).build_responder().map_err(failed)?;
    let mut noise = shake_hands(responder, &mut stream)?;
    let mut state = vec![0; length + TAG];
    let mut received = 0;
    let mut frame = vec![0; FRAME];
    let mut reader = BufReader::with_capacity(4 * FRAME, &stream);
    while received < length {
        let message = read_message(&mut reader, &mut frame)?;
        received += noise.read_message(message, &mut state[received..]).map_err(failed)?;
    }
    drop(reader);
    stream.write_all(&[1]).map_err(failed)
}

fn shake_hands(mut noise: HandshakeState, stream: &mut TcpStream) -> Result<TransportState> {
    let mut frame = vec![0; FRAME];
    let mut payload = vec![0; FRAME];
    while !noise.is_handshake_finished() {
        if noise.is_my_turn() {
            let length = noise.write_message(&[], &mut frame).map_err(failed)?;
            stream.write_all(&u16::try_from(length).map_err(failed)?.to_le_bytes()).map_err(failed)?;
            stream.write_all(&frame[..length]).map_err(failed)?;
        } else {
            let message = read_message(stream, &mut frame)?;
            noise.read_message(message, &mut payload).map_err(failed)?;
        }
    }
    noise.into_transport_mode().map_err(failed)
}

fn read_message<'a>(reader: &mut impl Read, frame: &'a mut [u8]) -> Result<&'a [u8]> {
    let mut length = [0; 2];
    reader.read_exact(&mut length).map_err(failed)?;
    let message = &mut frame[..usize::from(u16::from_le_bytes(length))];
    reader.read_exact(message).map_err(failed)?;
    Ok(message)
}

fn failed(error: impl ToString) -> Error {
    Error::from_reason(error.to_string())
}
