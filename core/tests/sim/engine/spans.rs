//! What is logged of moves: each part of each node in each of them has one span, and all that is said of it is said there.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::in_world;
use super::world::World;

/// The spans of migrations by their ids, those that are entered, and in which ones something was said.
#[derive(Default)]
struct Heard {
    spans: Vec<String>,
    entered: Vec<Id>,
    said: Vec<Option<String>>,
}

struct Listener(Arc<Mutex<Heard>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("mesh_daemon_core::runtime")
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let mut text = Text(String::new());
        attributes.record(&mut text);
        let mut heard = self.0.lock().expect("one thread");
        heard.spans.push(text.0);
        Id::from_u64(heard.spans.len() as u64)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        if text.0.contains("message=migration") {
            let mut heard = self.0.lock().expect("one thread");
            let span = heard.entered.last().map(|id| heard.spans[id.into_u64() as usize - 1].clone());
            heard.said.push(span);
        }
    }

    fn enter(&self, span: &Id) {
        self.0.lock().expect("one thread").entered.push(span.clone());
    }

    fn exit(&self, _: &Id) {
        self.0.lock().expect("one thread").entered.pop();
    }
}

#[test]
fn each_part_in_a_migration_has_one_span_that_names_daemon_migration_and_part() {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let origins = tracing::subscriber::with_default(Listener(heard.clone()), || {
        let mut origins = Vec::new();
        in_world(World::open(1, 3), |world| {
            for seed in [1, 2] {
                let origin = world.spawn(0, seed, "prompt");
                origins.push(origin);
                for (driver, to) in [(2, 1), (0, 0), (1, 2)] {
                    assert_eq!(world.moved(driver, origin, to), Ok(()));
                }
            }
        });
        origins
    });
    let heard = std::mem::take(&mut *heard.lock().expect("one thread"));
    let distinct: BTreeSet<_> = heard.spans.iter().collect();
    assert_eq!(distinct.len(), heard.spans.len(), "one for each");
    for origin in &origins {
        for role in ["source", "target", "orchestrator"] {
            let of = |text: &&String| text.contains(&format!("origin={origin} ")) && text.contains(role);
            assert_eq!(distinct.iter().copied().filter(of).count(), 3, "{role} of {origin} in three moves");
        }
    }
    assert_eq!(heard.spans.len(), origins.len() * 3 * 3);
    let said: BTreeSet<_> = heard.said.iter().map(|span| span.as_ref().expect("it is said of a part")).collect();
    assert_eq!(said, distinct);
    assert!(heard.said.len() > 2 * heard.spans.len(), "the stages of each");
}
