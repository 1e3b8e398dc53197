//! The node's own subscriptions, with a reader and without. Of a publisher that it has yet to meet, because it has only begun
//! to join, they begin when it is met.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Channels, Joining, Shared, answer, own_key, settled};
use crate::channel::reader::{Reader, ReaderEnd, ReaderId};
use crate::channel::{ChannelError, Feed};
use crate::identity::NodeId;

/// What is to be subscribed to.
struct Wish {
    publisher: NodeId,
    feed: Feed,
    token: Option<Vec<u8>>,
    reader: Option<ReaderId>,
}

type Asked = Result<oneshot::Receiver<Result<(), ChannelError>>, ChannelError>;

impl Channels {
    /// Has the node subscribe to a channel, or be a member of a queue group. It begins at once, also when the future is not
    /// awaited.
    pub fn subscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
        token: Option<&[u8]>,
    ) -> impl Future<Output = Result<(), ChannelError>> + use<> {
        answer(self.begin(Wish { publisher, feed: feed.clone(), token: token.map(<[u8]>::to_vec), reader: None }))
    }

    /// Subscribes with a reader. The future tells when the publisher has agreed.
    pub fn open_reader(
        &self,
        publisher: NodeId,
        feed: &Feed,
        token: Option<&[u8]>,
    ) -> (ReaderId, impl Future<Output = Result<(), ChannelError>> + use<>) {
        let reader = self.shared.act(|state, _| {
            state.last_reader += 1;
            let reader = ReaderId(state.last_reader);
            state.readers.insert(reader, Reader::default());
            reader
        });
        let (feed, token) = (feed.clone(), token.map(<[u8]>::to_vec));
        (reader, answer(self.begin(Wish { publisher, feed, token, reader: Some(reader) })))
    }

    fn begin(&self, wish: Wish) -> Asked {
        let Some(meeting) = self.shared.mesh.meeting(wish.publisher) else {
            return self.shared.join(&wish).inspect_err(|error| self.shared.fail(&wish, error));
        };
        let (tell, told) = oneshot::channel();
        let shared: Arc<Shared> = self.shared.clone();
        self.shared.mesh.tasks().spawn(async move {
            tokio::select! {
                () = shared.closed.cancelled() => return,
                () = meeting => {}
            }
            let asked = shared.join(&wish).inspect_err(|error| shared.fail(&wish, error));
            drop(shared);
            let _nobody_waits = tell.send(answer(asked).await);
        });
        Ok(told)
    }
}

impl Shared {
    fn join(&self, wish: &Wish) -> Asked {
        let Wish { publisher, feed, token, reader } = wish;
        self.act(|state, now| {
            if reader.is_some_and(|reader| !state.readers.contains_key(&reader)) {
                // It was closed before it began.
                return Ok(settled());
            }
            let key = own_key(*publisher, feed);
            let joining = if reader.is_some() { Joining::Reader(key) } else { Joining::Kept(key) };
            let told = state.join(*publisher, feed, token.as_deref(), joining, now)?;
            let own = state.own.entry(key).or_default();
            match reader {
                Some(reader) => own.readers.push(*reader),
                None => own.joining += 1,
            }
            Ok(told)
        })
    }

    /// A subscription came to nothing before the publisher was asked.
    fn fail(&self, wish: &Wish, error: &ChannelError) {
        if let Some(reader) = wish.reader {
            self.act(|state, _| state.end_reader(reader, ReaderEnd::Failed(error.clone())));
        }
    }
}
