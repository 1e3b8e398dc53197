//! What each simulated node does with the work of its engine.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use mesh_daemon_core::daemon::{DaemonKey, EventOutcome, Ticket};
use mesh_daemon_core::migration::SliceHash;
use mesh_daemon_core::runtime::{ConstructFor, Notice, Rest, Role, RuntimeError, Settlement, Work};
use mesh_daemon_core::wire::events::Thrown;
use mesh_daemon_core::wire::migration::Stage;
use rand::Rng;

use super::super::daemon::{Awaited, HANG, Ledger, Manner, Object, Request, Working, error};
use super::{Event, Node, World};

impl World {
    /// Runs the user's side of a node until it has nothing to do, and sends what that leaves.
    pub(crate) fn settle(&mut self, node: usize) {
        let now = self.present();
        // Chunks of large states are placed at once: other threads would not do the same twice.
        for placement in self.nodes[node].engine.take_placements() {
            if let Some(id) = placement.place() {
                self.nodes[node].engine.placed(&id, now);
            }
        }
        loop {
            self.serve_channels(node);
            while let Some(work) = self.nodes[node].engine.next_work(now) {
                self.work(node, work);
            }
            let served = self.nodes[node].engine.serve_channels(now);
            let wanted = self.nodes[node].engine.take_wanted();
            if wanted.is_empty() && !served && !self.nodes[node].engine.has_work() {
                break;
            }
            // Nobody relays here.
            for wanted in wanted {
                self.nodes[node].engine.unreachable(wanted, now);
            }
        }
        let _ = self.nodes[node].engine.take_wakes();
        self.transmit(node);
        self.follow_up(node);
    }

    /// What was sent may leave work behind: more of a state is to be read.
    pub(super) fn follow_up(&mut self, node: usize) {
        if self.nodes[node].engine.has_work() {
            self.settle(node);
        }
    }

    pub(super) fn work(&mut self, node: usize, work: Work) {
        let now = self.present();
        let life = self.nodes[node].life;
        match work {
            Work::Construct { daemon, origin, kind, purpose, .. } => {
                let stretch = self.talk.as_mut().map(|talk| talk.begin_stretch(None));
                let objects = &mut self.nodes[node].objects;
                objects.constructed += 1;
                let takes = objects.faults.construct_takes.filter(|_| purpose == ConstructFor::Spawn);
                let result = if objects.faults.construct {
                    Err(error("the factory was told to fail"))
                } else {
                    let ledger = match purpose {
                        ConstructFor::Spawn => Ledger { stretch, ..objects.fresh.clone() },
                        ConstructFor::Arrival => Ledger::default(),
                    };
                    let manner = Manner::of_kind(kind.as_deref());
                    let object = Object {
                        origin,
                        manner,
                        ledger,
                        working: None,
                        snapshot: None,
                        hanging: false,
                        pausing: false,
                    };
                    objects.map.insert(daemon, object);
                    Ok(())
                };
                match takes {
                    Some(takes) => self.at(takes, Event::Constructed { node, life, daemon }),
                    None => self.nodes[node].engine.constructed(daemon, result, now),
                }
            }
            Work::Restore { daemon, state } => {
                let objects = &mut self.nodes[node].objects;
                let faults = objects.faults;
                if faults.restore {
                    self.nodes[node].engine.restored(daemon, Err(error("restore was told to fail")), now);
                    return;
                }
                if let Some(object) = objects.map.get_mut(&daemon) {
                    object.ledger = Ledger::restore(&state);
                    if let Some(talk) = &mut self.talk {
                        object.ledger.stretch = Some(talk.begin_stretch(object.ledger.stretch));
                    }
                }
                match faults.restore_takes {
                    Some(takes) => self.at(takes, Event::Restored { node, life, daemon }),
                    None => self.nodes[node].engine.restored(daemon, Ok(()), now),
                }
            }
            Work::Run { daemon, batch } => {
                let events = self.nodes[node].engine.batch(daemon, batch).cloned().expect("handed out");
                self.run_batch(node, daemon, batch, events);
            }
            Work::Yield { daemon } | Work::Abort { daemon } => self.give_back(node, daemon),
            Work::Hush { daemon } => {
                self.speech.hushing.insert((node, daemon));
                self.hush(node, daemon);
            }
            Work::Snapshot { daemon } => {
                let faults = self.nodes[node].objects.faults;
                if faults.snapshot_hangs {
                    return;
                }
                match faults.snapshot_takes {
                    Some(takes) => self.at(takes, Event::Snapshotted { node, life, daemon }),
                    None => self.snapshotted(node, daemon),
                }
            }
            Work::ReadState { daemon, offset, len } => match self.nodes[node].objects.faults.slices_take {
                Some(takes) => self.at(takes, Event::Slice { node, life, daemon, offset, len }),
                None => self.read_slice(node, daemon, offset, len),
            },
            Work::CheckState { daemon, offset, len } => {
                let hash = self.slice_of_state(node, daemon, offset, len).map(|slice| SliceHash::of(&slice));
                self.nodes[node].engine.state_checked(daemon, offset, hash, now);
            }
            Work::ReleaseState { daemon } => {
                if let Some(object) = self.nodes[node].objects.map.get_mut(&daemon) {
                    object.snapshot = None;
                }
            }
            Work::Retire { daemon, reason } => {
                self.note(&format!("n{node} retires {daemon:?} {reason:?}"));
                self.retired.push((node, reason));
                self.nodes[node].objects.map.remove(&daemon);
            }
            Work::Admit { question, request } => {
                let yes = request.state_bytes <= self.nodes[node].admits_bytes;
                self.nodes[node].asked.push(request);
                self.decide(node, question, yes);
            }
            Work::AdmitOrchestrator { question, node: asking } => {
                let yes = self.nodes[node].admits_orchestrator.is_none_or(|admitted| self.id(admitted) == asking);
                self.decide(node, question, yes);
            }
            Work::Settle { ticket, result } => self.answered(node, ticket, result),
            Work::Notice(notice) => self.notice(node, notice),
        }
    }

    fn decide(&mut self, node: usize, question: u64, yes: bool) {
        let now = self.present();
        let node = &mut self.nodes[node];
        if node.policy_is_silent {
            node.questions.push(question);
        } else {
            node.engine.admitted(question, yes, now);
        }
    }

    pub(super) fn read_slice(&mut self, node: usize, daemon: DaemonKey, offset: u64, len: u32) {
        let slice = self.slice_of_state(node, daemon, offset, len);
        if self.nodes[node].objects.faults.changed {
            self.change_state(node, daemon);
        }
        let now = self.present();
        self.nodes[node].engine.state_slice(daemon, offset, slice, now);
    }

    fn slice_of_state(&self, node: usize, daemon: DaemonKey, offset: u64, len: u32) -> Result<Bytes, Thrown> {
        let objects = &self.nodes[node].objects;
        match objects.map.get(&daemon).and_then(|object| object.snapshot.as_ref()) {
            Some(whole) if !objects.faults.detached => {
                let start = usize::try_from(offset).expect("a small state");
                Ok(whole.slice(start..start + len as usize))
            }
            _ => Err(error("the buffer was detached")),
        }
    }

    /// Other code of the user's writes into what `snapshot` returned.
    fn change_state(&mut self, node: usize, daemon: DaemonKey) {
        let object = self.nodes[node].objects.map.get_mut(&daemon).expect("an object");
        let whole = object.snapshot.as_mut().expect("it is read");
        *whole = whole.iter().map(|byte| byte.wrapping_add(1)).collect();
    }

    pub(super) fn notice(&mut self, node: usize, notice: Notice) {
        match notice {
            Notice::Phase { migration, stage } => {
                self.note(&format!("n{node} phase {stage:?}"));
                let phases = self.nodes[node].phases.entry(migration.get()).or_default();
                assert!(phases.last().is_none_or(|last| *last < stage), "phases come once and in order");
                phases.push(stage);
            }
            Notice::Progress { migration, progress, elapsed, .. } => {
                self.note(&format!("n{node} after {elapsed:?} of it: {progress:?}"));
                self.nodes[node].progress.entry(migration.get()).or_default().push(progress.bytes_sent);
            }
            Notice::MigrationOver { migration, result } => {
                self.note(&format!("n{node} {migration:?} over {result:?}"));
                let before = self.nodes[node].over.insert(migration.get(), result);
                assert!(before.is_none(), "a migration ends once");
            }
            Notice::Subscription { .. } => self.note(&format!("n{node} {notice:?}")),
            Notice::Daemon { event, .. } => {
                self.note(&format!("n{node} daemon {event:?}"));
                self.daemon_events.push((node, event));
            }
            Notice::Migration { migration, origin, role, stage, failure, .. } => {
                self.note(&format!("n{node} as {role:?} of {migration:?}: {stage:?} {failure:?}"));
                if role == Role::Target && stage == Some(Stage::Complete) && failure.is_none() {
                    self.landed.insert(migration.get(), (origin, self.id(node)));
                }
                let node = &mut self.nodes[node];
                let part = match role {
                    Role::Source => "source",
                    Role::Target => "target",
                    Role::Orchestrator => "orchestrator",
                };
                if failure.is_some() || stage == Some(Stage::Complete) {
                    node.open.remove(&(migration.get(), part));
                } else {
                    node.open.insert((migration.get(), part));
                }
                node.stages.extend(stage.map(|stage| (role, stage)));
                node.failed.extend(failure.map(|failure| (role, failure)));
            }
            Notice::TooLate { .. } => self.note(&format!("n{node} too late")),
            #[cfg(feature = "test-hooks")]
            Notice::GateReached { .. } => {}
        }
    }

    pub(super) fn snapshotted(&mut self, node: usize, daemon: DaemonKey) {
        let now = self.present();
        let Node { engine, objects, .. } = &mut self.nodes[node];
        let Some(object) = objects.map.get_mut(&daemon) else { return };
        let result = if objects.faults.snapshot {
            Err(error("snapshot was told to fail"))
        } else {
            object.snapshot = object.ledger.snapshot();
            // If it goes on here all the same, that is no continuation of what the snapshot became elsewhere.
            if let Some(talk) = &mut self.talk {
                object.ledger.stretch = Some(talk.begin_stretch(object.ledger.stretch));
            }
            Ok(object.snapshot.as_ref().map(|bytes| bytes.len() as u64))
        };
        engine.snapshot_taken(daemon, result, now);
    }

    pub(super) fn run_batch(
        &mut self,
        node: usize,
        daemon: DaemonKey,
        batch: mesh_daemon_core::daemon::BatchId,
        events: VecDeque<mesh_daemon_core::daemon::Delivery>,
    ) {
        let Some(object) = self.nodes[node].objects.map.get_mut(&daemon) else { panic!("a batch for no object") };
        assert!(object.working.is_none(), "one batch at a time");
        match object.manner {
            Manner::Prompt => {
                let hangs = events.iter().position(|event| Request::decode(&event.payload).flags & HANG != 0);
                let run = hangs.unwrap_or(events.len());
                let mut events = events;
                let rest = events.split_off(run);
                let outcomes: Vec<_> = events.iter().map(|event| object.ledger.process(&event.payload)).collect();
                let ids: Vec<u64> = events.iter().map(|event| Request::decode(&event.payload).id).collect();
                self.ran.extend(&ids);
                if !rest.is_empty() {
                    self.tokens += 1;
                    object.hanging = true;
                    object.working = Some(Working { batch, events: rest, token: self.tokens });
                }
                if self.talkative {
                    self.note(&format!("n{node} {daemon:?} runs {ids:?}"));
                }
                for id in ids {
                    self.speak(node, daemon, id, false);
                }
                self.report(node, daemon, batch, outcomes, Rest::Continues);
            }
            Manner::Slow => {
                self.tokens += 1;
                let token = self.tokens;
                object.working = Some(Working { batch, events, token });
                self.next_step(node, daemon, token);
            }
        }
    }

    pub(super) fn next_step(&mut self, node: usize, daemon: DaemonKey, token: u64) {
        let hangs = self.nodes[node].objects.map.get_mut(&daemon).is_some_and(|object| {
            let first = object.working.as_ref().and_then(|working| working.events.front());
            object.hanging = first.is_some_and(|event| Request::decode(&event.payload).flags & HANG != 0);
            object.hanging
        });
        if !hangs {
            let takes = Duration::from_micros(self.rng.random_range(self.slow_takes.clone()));
            let life = self.nodes[node].life;
            self.at(takes, Event::Step { node, life, daemon, token });
        }
    }

    /// Lets the event that hangs settle.
    pub(crate) fn let_go(&mut self, node: usize, daemon: DaemonKey) {
        let token = {
            let object = self.nodes[node].objects.map.get_mut(&daemon).expect("an object");
            object.hanging = false;
            object.working.as_ref().expect("it works").token
        };
        self.step(node, daemon, token);
        self.settle(node);
    }

    pub(super) fn step(&mut self, node: usize, daemon: DaemonKey, token: u64) {
        let Some(object) = self.nodes[node].objects.map.get(&daemon) else { return };
        let Some(working) = object.working.as_ref().filter(|working| working.token == token) else { return };
        if self.talk.is_some() {
            let heard = Request::decode(&working.events.front().expect("a batch in work has events").payload).id;
            let awaited = self.speak(node, daemon, heard, true).filter(|ticket| !self.is_answered(*ticket));
            match awaited {
                Some(Ticket(ticket)) => {
                    self.speech.awaited.insert(ticket, Awaited { daemon, token, insists: false });
                }
                None => self.finish_step(node, daemon, token),
            }
            return;
        }
        let speaker = object.origin;
        if let Some(sink) = self.speech.sink {
            let event = working.events.front().expect("a batch in work has events");
            let payload = event.payload.clone();
            let ticket = self.ticket(node, None);
            if self.speech.unawaited {
                self.speech.murmured.insert(ticket.0, (node, daemon));
            } else {
                self.speech.awaited.insert(ticket.0, Awaited { daemon, token, insists: true });
            }
            let now = self.present();
            if let Err(error) = self.nodes[node].engine.send_event_as(ticket, Some(speaker), sink, payload, now) {
                self.answered(node, ticket, Err(error));
            }
        }
        if self.speech.sink.is_none() || self.speech.unawaited {
            self.finish_step(node, daemon, token);
        }
    }

    /// Tells an engine that wants to hear it that nothing of a daemon is on its way any more.
    fn hush(&mut self, node: usize, daemon: DaemonKey) {
        if !self.speech.murmured.values().any(|of| *of == (node, daemon)) && self.speech.hushing.remove(&(node, daemon))
        {
            let now = self.present();
            self.nodes[node].engine.hushed(daemon, now);
        }
    }

    fn finish_step(&mut self, node: usize, daemon: DaemonKey, token: u64) {
        let Some(object) = self.nodes[node].objects.map.get_mut(&daemon) else { return };
        let Some(working) = object.working.as_mut().filter(|working| working.token == token) else { return };
        let event = working.events.pop_front().expect("a batch in work has events");
        let batch = working.batch;
        let outcome = object.ledger.process(&event.payload);
        let id = Request::decode(&event.payload).id;
        self.ran.push(id);
        let more = !working.events.is_empty();
        let goes_on = more && !object.pausing;
        if !more {
            object.working = None;
        }
        if self.talkative {
            self.note(&format!("n{node} {daemon:?} runs {id}"));
        }
        self.report(node, daemon, batch, vec![outcome], Rest::Continues);
        if goes_on {
            self.next_step(node, daemon, token);
        }
    }

    // The event that runs goes on, if one does; the rest goes back.
    pub(super) fn give_back(&mut self, node: usize, daemon: DaemonKey) {
        let Some(object) = self.nodes[node].objects.map.get_mut(&daemon) else { return };
        if object.pausing && !object.hanging {
            object.pausing = false;
            let Some(working) = object.working.take() else { return };
            return self.report(node, daemon, working.batch, Vec::new(), Rest::GivenBack);
        }
        let Some(working) = &mut object.working else { return };
        working.events.truncate(1);
        let batch = working.batch;
        self.report(node, daemon, batch, Vec::new(), Rest::GivenBackButRunning);
    }

    pub(super) fn report(
        &mut self,
        node: usize,
        daemon: DaemonKey,
        batch: mesh_daemon_core::daemon::BatchId,
        outcomes: Vec<EventOutcome>,
        rest: Rest,
    ) {
        let now = self.present();
        let mut local = Vec::new();
        self.nodes[node].engine.ran(daemon, batch, outcomes, rest, now, &mut |ticket, result| {
            local.push((ticket, result));
        });
        for (ticket, result) in local {
            self.answered(node, ticket, result.map(Settlement::Outputs));
        }
    }

    pub(super) fn answered(&mut self, node: usize, ticket: Ticket, result: Result<Settlement, RuntimeError>) {
        let kind = match &result {
            Ok(Settlement::Outputs(_)) => "outputs".to_owned(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{error:?}"),
        };
        self.note(&format!("n{node} ticket {} {kind}", ticket.0));
        let wait = self.waits.get_mut(&ticket.0).expect("a ticket that was given out");
        assert_eq!(wait.node, node, "answered on the node that asked");
        assert!(wait.result.is_none(), "ticket {} was answered twice", ticket.0);
        let done = result.is_ok();
        wait.result = Some(result);
        if let Some((_, daemon)) = self.speech.murmured.remove(&ticket.0) {
            self.hush(node, daemon);
        }
        match self.speech.awaited.remove(&ticket.0) {
            Some(Awaited { daemon, token, insists }) if done || !insists => self.finish_step(node, daemon, token),
            // Out of reach for now: it tries again.
            Some(Awaited { daemon, token, .. }) => {
                let life = self.nodes[node].life;
                self.at(Duration::from_millis(5), Event::Step { node, life, daemon, token });
            }
            None => {}
        }
    }

    // What tests do.
}
