//! The warnings of a test.
//!
//! One subscriber serves the whole process and hands each warning to the thread that it came from: with one for each test,
//! whether a warning is of interest to anybody would depend on the thread that first came by it.

use std::cell::RefCell;
use std::fmt::{Debug, Write as _};
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

thread_local! {
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Keeps what this thread warns of from now on.
pub(super) fn keep() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Warnings).expect("the only one of this process"));
    KEPT.set(Some(Vec::new()));
}

/// What was kept since.
pub(super) fn take() -> Vec<String> {
    KEPT.replace(Some(Vec::new())).unwrap_or_default()
}

struct Warnings;

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        KEPT.with_borrow_mut(|kept| {
            if let Some(kept) = kept {
                let mut text = Text(String::new());
                event.record(&mut text);
                kept.push(text.0);
            }
        });
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}
