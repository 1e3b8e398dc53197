//! What stands in streams: events at their numbers, and replies that are kept.

use bytes::Bytes;

use crate::causal::CausalLink;
use crate::wire::MAX_RECORD_BODY;
use crate::wire::events::{Event, Failure, Item, Outputs, Reply};

/// What stands at a number of a stream.
#[derive(Clone, Debug)]
pub enum Held {
    /// An event.
    Event {
        /// Its place in its emitter's chain.
        link: CausalLink,
        /// The user's bytes.
        payload: Bytes,
        /// Whether the sender waits for outputs.
        call: bool,
    },
    /// Given up by the sender.
    Skip,
}

impl Held {
    /// Its bytes, as they count against the bounds of a stream and of a mailbox.
    pub fn weight(&self) -> usize {
        match self {
            Self::Event { payload, .. } => payload.len(),
            Self::Skip => 0,
        }
    }
}

/// Whether so many bytes may keep a whole frame in memory for as long as they wait.
const fn is_worth_a_frame(bytes: usize) -> bool {
    bytes * 16 >= MAX_RECORD_BODY
}

/// An output as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputRecord {
    /// Its link.
    pub link: CausalLink,
    /// Its bytes.
    pub payload: Bytes,
}

/// A reply that the sender has not acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReply {
    /// The call's number.
    pub number: u64,
    /// What came of it.
    pub result: Result<Outputs<OutputRecord>, Failure>,
}

impl KeptReply {
    /// What it counts for against the bound of kept replies, and about what it takes on the wire.
    pub fn weight(&self) -> usize {
        match &self.result {
            Ok(outputs) => 48 + outputs.iter().map(|o| o.payload.len() + 48).sum::<usize>(),
            Err(failure) => {
                let cause = failure
                    .cause
                    .as_ref()
                    .map_or(0, |c| c.name.len() + c.message.len() + c.stack.as_ref().map_or(0, String::len));
                96 + failure.message.len() + cause
            }
        }
    }

    /// How many outputs there are.
    pub fn outputs(&self) -> usize {
        self.result.as_ref().map_or(0, |outputs| outputs.len())
    }

    /// The user's bytes.
    pub fn payload_len(&self) -> usize {
        self.result.as_ref().map_or(0, |outputs| outputs.iter().map(|output| output.payload.len()).sum())
    }

    /// The reply as a message field.
    pub fn as_wire(&self) -> Reply<'_> {
        let result = match &self.result {
            Ok(outputs) => Ok(outputs.each().map(|output| Event { link: output.link, payload: &output.payload })),
            Err(failure) => Err(failure.clone()),
        };
        Reply { number: self.number, result }
    }
}

impl KeptReply {
    /// Takes a decoded reply; payloads become slices of the message they were decoded from.
    pub fn from_wire(reply: &Reply<'_>, message: &Bytes) -> Self {
        let result = match &reply.result {
            Ok(outputs) => Ok(outputs
                .each()
                .map(|output| OutputRecord { link: output.link, payload: message.slice_ref(output.payload) })),
            Err(failure) => Err(failure.clone()),
        };
        Self { number: reply.number, result }
    }
}

impl Held {
    /// Takes a decoded item; a large payload becomes a slice of the message.
    pub fn from_wire(item: &Item<'_>, message: &Bytes) -> Self {
        let (event, call): (&Event<'_>, bool) = match item {
            Item::Call(event) => (event, true),
            Item::Send(event) => (event, false),
            Item::Skip => return Self::Skip,
        };
        // The message is a slice of a frame, which holds others as well.
        let payload = if is_worth_a_frame(event.payload.len()) {
            message.slice_ref(event.payload)
        } else {
            Bytes::copy_from_slice(event.payload)
        };
        Self::Event { link: event.link, payload, call }
    }

    /// The same to be stored by itself, whatever it came with.
    #[must_use]
    pub fn alone(self) -> Self {
        match self {
            Self::Event { link, payload, call } if !is_worth_a_frame(payload.len()) => {
                Self::Event { link, payload: Bytes::copy_from_slice(&payload), call }
            }
            Self::Event { .. } | Self::Skip => self,
        }
    }

    /// Takes the items of one message. Payloads that together are worth a frame are slices of it: they are accepted in
    /// their order, so at most one frame of a stream is kept for what is left of it.
    pub fn all_from_wire<'a>(items: &'a [Item<'a>], message: &'a Bytes) -> impl Iterator<Item = Self> + 'a {
        let payloads: usize = items.iter().map(|item| item.event().map_or(0, |event| event.payload.len())).sum();
        let worth = is_worth_a_frame(payloads);
        items.iter().map(move |item| match item {
            Item::Call(event) | Item::Send(event) if worth => {
                let call = matches!(item, Item::Call(_));
                Self::Event { link: event.link, payload: message.slice_ref(event.payload), call }
            }
            Item::Call(_) | Item::Send(_) | Item::Skip => Self::from_wire(item, message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::OriginHash;

    fn is_copied(held: &Held, frame: &Bytes) -> bool {
        let Held::Event { payload, .. } = held else { panic!("an event") };
        !frame.as_ptr_range().contains(&payload.as_ptr())
    }

    /// However small the message was that brought it, for the rest of the frame was others'.
    #[test]
    fn requirement_bounds_a_small_payload_keeps_no_frame() {
        let frame = Bytes::from(vec![0; MAX_RECORD_BODY]);
        let event = |size: usize| Event { link: CausalLink::genesis(OriginHash::new(1)), payload: &frame[..size] };
        let message = frame.slice(..100);
        assert!(is_copied(&Held::from_wire(&Item::Send(event(100)), &message), &frame));
        assert!(!is_copied(&Held::from_wire(&Item::Send(event(5000)), &frame), &frame));
        let many: Vec<_> = (0..100).map(|_| Item::Call(event(50))).collect();
        for held in Held::all_from_wire(&many, &frame) {
            assert!(!is_copied(&held, &frame), "together they are worth it");
            assert!(is_copied(&held.alone(), &frame));
        }
    }
}
