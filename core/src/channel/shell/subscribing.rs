//! The node's own subscriptions, with a reader and without. Of a publisher that it has yet to meet, because it has only begun
//! to join, they begin when it is met.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Answer, Channels, Joining, State, answer, own_key};
use crate::channel::machine::Moment;
use crate::channel::reader::{Reader, ReaderEnd, ReaderId};
use crate::channel::{ChannelError, Feed};
use crate::identity::NodeId;

/// What is to be subscribed to.
struct Wish {
    joining: Joining,
    token: Option<Vec<u8>>,
}

impl Wish {
    fn new(publisher: NodeId, feed: &Feed, token: Option<&[u8]>, reader: Option<ReaderId>) -> Self {
        Self { joining: Joining { publisher, feed: feed.clone(), reader }, token: token.map(<[u8]>::to_vec) }
    }
}

type Asked = Result<Answer, ChannelError>;

impl Channels {
    /// Has the node subscribe to a channel, or be a member of a queue group. It begins at once, also when the future is not
    /// awaited.
    pub fn subscribe(
        &self,
        publisher: NodeId,
        feed: &Feed,
        token: Option<&[u8]>,
    ) -> impl Future<Output = Result<(), ChannelError>> + use<> {
        answer(self.begin(Wish::new(publisher, feed, token, None)))
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
            state.readers.insert(reader, Reader::new(own_key(publisher, feed)));
            reader
        });
        (reader, answer(self.begin(Wish::new(publisher, feed, token, Some(reader)))))
    }

    fn begin(&self, wish: Wish) -> Asked {
        let Some(meeting) = self.shared.mesh.meeting(wish.joining.publisher) else {
            return self.shared.act(|state, now| {
                state.enter(&wish);
                state.ask(&wish, now)
            });
        };
        self.shared.act(|state, _| {
            state.enter(&wish);
            state.open().map(|_| ()).inspect_err(|error| state.withdraw(&wish, error))
        })?;
        let (tell, told) = oneshot::channel();
        let (shared, timer) = (Arc::downgrade(&self.shared), self.shared.timer.clone());
        self.shared.mesh.tasks().spawn(async move {
            tokio::select! {
                biased;
                () = timer.stopped() => return,
                () = meeting => {}
            }
            let asked = shared.upgrade().map(|shared| shared.act(|state, now| state.ask(&wish, now)));
            if let Some(asked) = asked {
                let _nobody_waits = tell.send(answer(asked).await);
            }
        });
        Ok(told)
    }
}

impl State {
    /// The node is to subscribe, as soon as the publisher can be asked.
    fn enter(&mut self, wish: &Wish) {
        let own = self.own.entry(wish.joining.key()).or_default();
        match wish.joining.reader {
            Some(reader) => own.readers.push(reader),
            None => own.joining += 1,
        }
    }

    fn is_entered(&self, wish: &Wish) -> bool {
        self.own.get(&wish.joining.key()).is_some_and(|own| match wish.joining.reader {
            Some(reader) => own.readers.contains(&reader),
            None => own.joining > 0,
        })
    }

    /// Asks the publisher, unless the node has left again meanwhile.
    fn ask(&mut self, wish: &Wish, now: Moment) -> Asked {
        if !self.is_entered(wish) {
            return Err(wish.joining.feed.unsubscribed());
        }
        let told = self.join(&wish.joining, wish.token.as_deref(), now);
        if let Err(error) = &told {
            self.withdraw(wish, error);
        }
        told
    }

    /// A subscription came to nothing before the publisher was asked.
    fn withdraw(&mut self, wish: &Wish, error: &ChannelError) {
        let key = wish.joining.key();
        match (wish.joining.reader, self.own.get_mut(&key)) {
            (Some(reader), _) => self.dismiss(key, reader, ReaderEnd::Failed(error.clone())),
            (None, Some(own)) => own.joining = own.joining.saturating_sub(1),
            (None, None) => {}
        }
        if self.own.get(&key).is_some_and(|own| !own.is_wanted()) {
            self.own.remove(&key);
        }
    }
}
