use super::*;
use crate::directory::ClaimBody;
use crate::identity::{EntityKeypair, Lineage};

const ORIGIN: OriginHash = OriginHash::new(1);
const ONE: NodeId = NodeId::new(1);
const OTHER: NodeId = NodeId::new(2);

fn begin(lookups: &mut Lookups, haste: Haste, peers: &[(NodeId, bool)]) -> Option<Query> {
    lookups.begin(ORIGIN, haste, peers.iter().copied(), Instant::now())
}

fn endings(lookups: &mut Lookups) -> Vec<Finding> {
    lookups.finished(Instant::now(), |_| false).into_iter().map(|ended| ended.finding).collect()
}

#[test]
fn who_has_no_deadline_does_not_wait_for_peers_that_have_not_started() {
    let mut lookups = Lookups::default();
    begin(&mut lookups, Haste::SkipSilent, &[(ONE, false)]);
    assert_eq!(endings(&mut lookups), [Finding::Unanswered(None)]);
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, false), (OTHER, true)]).expect("new");
    assert_eq!(endings(&mut lookups), []);
    lookups.answer(query, OTHER, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [Finding::Unanswered(None)]);
}

#[test]
fn a_caller_waits_for_peers_that_have_not_started_and_a_spawn_that_joins_does_not() {
    let mut lookups = Lookups::default();
    begin(&mut lookups, Haste::WaitForAll, &[(ONE, false)]);
    assert_eq!(endings(&mut lookups), []);
    assert_eq!(begin(&mut lookups, Haste::SkipSilent, &[(ONE, false)]), None, "it is being asked");
    assert_eq!(endings(&mut lookups), [Finding::Unanswered(None)]);
}

#[test]
fn a_caller_that_joins_a_spawn_takes_in_the_peers_that_this_left_out() {
    let mut lookups = Lookups::default();
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true)]).expect("new");
    assert_eq!(lookups.join(ORIGIN, Haste::WaitForAll), Some(query));
    assert!(lookups.begin_to_wait(query));
    assert!(!lookups.ask_too(query, OTHER, false), "it is asked once it can be");
    assert!(!lookups.begin_to_wait(query), "they are in already");
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [Finding::Unanswered(None)], "at once, and the other one may know");

    let query = begin(&mut lookups, Haste::WaitForAll, &[(ONE, true)]).expect("new");
    assert!(!lookups.begin_to_wait(query), "nobody was left out");
}

#[test]
fn a_peer_that_comes_while_a_question_is_open_is_asked_too() {
    let mut lookups = Lookups::default();
    let query = begin(&mut lookups, Haste::WaitForAll, &[(ONE, true)]).expect("new");
    lookups.peer_silent(OTHER, false);
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [], "the other one may know");
    assert_eq!(lookups.peer_answers(OTHER), [(query, ORIGIN)]);
    assert_eq!(lookups.peer_answers(ONE), [], "it has answered");
    lookups.answer(query, OTHER, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [Finding::NotFound(None)]);
}

#[test]
fn a_peer_with_a_new_session_is_asked_again() {
    let mut lookups = Lookups::default();
    let query = begin(&mut lookups, Haste::WaitForAll, &[(ONE, true)]).expect("new");
    lookups.peer_silent(ONE, false);
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [], "an answer of the former session");
    assert_eq!(lookups.peer_answers(ONE), [(query, ORIGIN)]);
    lookups.peer_gone(ONE, false);
    assert_eq!(endings(&mut lookups), [Finding::NotFound(None)]);
}

#[test]
fn who_is_not_sure_is_asked_again_and_ends_no_question() {
    let mut lookups = Lookups::default();
    let now = Instant::now();
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true), (OTHER, true)]).expect("new");
    lookups.answer(query, ONE, Answer::Nothing);
    lookups.answer(query, OTHER, Answer::Unsure);
    assert_eq!(endings(&mut lookups), [], "it would perhaps know");
    assert_eq!(lookups.again(now), []);
    assert_eq!(lookups.again(now + 2 * AGAIN), [(query, ORIGIN, OTHER)]);
    lookups.answer(query, OTHER, Answer::Unsure);
    let late: Vec<_> = lookups.finished(now + 2 * PATIENCE, |_| false).into_iter().map(|ended| ended.finding).collect();
    assert_eq!(late, [Finding::Unanswered(None)]);
}

#[test]
fn the_end_names_those_who_were_asked_and_have_not_answered() {
    let mut lookups = Lookups::default();
    let now = Instant::now();
    let silent = NodeId::new(3);
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true), (OTHER, true), (silent, false)]).expect("new");
    lookups.answer(query, ONE, Answer::Nothing);
    let ended = lookups.finished(now + 2 * PATIENCE, |_| false);
    let finding = Finding::Unanswered(None);
    assert_eq!(ended, [Ended { origin: ORIGIN, finding, unheard: BTreeSet::from([OTHER]) }]);
}

#[test]
fn a_host_that_knew_of_none_before_it_was_named_is_asked_again() {
    let mut lookups = Lookups::default();
    let now = Instant::now();
    let [host, daemon] = [EntityKeypair::generate(), EntityKeypair::generate()];
    let (origin, named) = (daemon.origin_hash(), host.node_id());
    let body = ClaimBody {
        entity: daemon.entity_id(),
        lineage: Lineage::new(1),
        epoch: Epoch::new(2),
        min_epoch: Epoch::default(),
        host: host.entity_id(),
        incarnation: None,
    };
    let claim = Claim::sign(body, &daemon).expect("a full key pair");
    let peers = [(ONE, true), (named, true)];
    let query = lookups.begin(origin, Haste::WaitForAll, peers.into_iter(), now).expect("new");
    lookups.answer(query, named, Answer::Nothing);
    lookups.answer(query, ONE, Answer::Claim(claim.clone()));
    assert_eq!(endings(&mut lookups), [], "it may have come there in between");
    assert_eq!(lookups.again(now + 2 * AGAIN), [(query, origin, named)]);
    lookups.answer(query, named, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [Finding::NotFound(Some(claim))], "its later word counts");
}

#[test]
fn who_names_a_host_that_the_daemon_has_left_is_not_believed() {
    let mut lookups = Lookups::default();
    let [former, last, daemon] = [(); 3].map(|()| EntityKeypair::generate());
    let named = |host: &EntityKeypair, epoch| {
        let body = ClaimBody {
            entity: daemon.entity_id(),
            lineage: Lineage::new(1),
            epoch: Epoch::new(epoch),
            min_epoch: Epoch::default(),
            host: host.entity_id(),
            incarnation: None,
        };
        Claim::sign(body, &daemon).expect("a full key pair")
    };
    let peers = [(ONE, true), (former.node_id(), true), (last.node_id(), true)];
    let query = lookups.begin(daemon.origin_hash(), Haste::WaitForAll, peers.into_iter(), Instant::now()).expect("new");
    let later = named(&last, 3);
    lookups.answer(query, last.node_id(), Answer::Nothing);
    lookups.answer(query, former.node_id(), Answer::Claim(later.clone()));
    for (_, _, node) in lookups.again(Instant::now() + 2 * AGAIN) {
        lookups.answer(query, node, Answer::Nothing);
    }
    lookups.answer(query, ONE, Answer::Claim(named(&former, 2)));
    assert_eq!(endings(&mut lookups), [Finding::NotFound(Some(later))], "it is nowhere");
}

#[test]
fn a_host_that_speaks_for_itself_is_believed_against_a_later_claim_of_another_that_names_it() {
    let mut lookups = Lookups::default();
    let [host, daemon] = [(); 2].map(|()| EntityKeypair::generate());
    let named = |lineage, epoch| {
        let body = ClaimBody {
            entity: daemon.entity_id(),
            lineage: Lineage::new(lineage),
            epoch: Epoch::new(epoch),
            min_epoch: Epoch::default(),
            host: host.entity_id(),
            incarnation: None,
        };
        Claim::sign(body, &daemon).expect("a full key pair")
    };
    let (origin, node) = (daemon.origin_hash(), host.node_id());
    let peers = [(ONE, true), (node, true)];
    let query = lookups.begin(origin, Haste::WaitForAll, peers.into_iter(), Instant::now()).expect("new");
    lookups.answer(query, ONE, Answer::Claim(named(1, 2)));
    // The daemon was begun anew there, by somebody who could not hear of its former life.
    let own = named(2, 1);
    lookups.answer(query, node, Answer::Claim(own.clone()));
    assert_eq!(endings(&mut lookups), [Finding::Found(Found { claim: own, by: node })]);
    // It knows only of another life, which it has left as well: of the one before it has nothing either.
    let third = EntityKeypair::generate();
    let query = lookups.begin(origin, Haste::WaitForAll, peers.into_iter(), Instant::now()).expect("new");
    let left = Claim::sign(ClaimBody { host: third.entity_id(), ..*named(2, 1).body() }, &daemon);
    let left = left.expect("a full key pair");
    lookups.answer(query, ONE, Answer::Claim(named(1, 2)));
    lookups.answer(query, node, Answer::Claim(left.clone()));
    assert_eq!(endings(&mut lookups), [Finding::Found(Found { claim: left, by: node })]);
}

#[test]
fn a_member_without_a_session_is_waited_for_and_another_peer_is_not() {
    let mut lookups = Lookups::default();
    begin(&mut lookups, Haste::WaitForAll, &[(ONE, true), (OTHER, true)]);
    lookups.peer_gone(ONE, false);
    lookups.peer_gone(OTHER, true);
    assert_eq!(endings(&mut lookups), []);
    assert_eq!(lookups.peer_answers(OTHER).len(), 1);
    assert_eq!(lookups.peer_answers(ONE).len(), 0);
}

#[test]
fn only_those_are_looked_at_that_are_due_or_of_which_something_was_heard() {
    let now = Instant::now();
    let mut lookups = Lookups::default();
    let mut ask = |number| {
        let origin = OriginHash::new(number);
        lookups.begin(origin, Haste::WaitForAll, std::iter::once((ONE, true)), now).expect("new")
    };
    let queries = [ask(1), ask(2), ask(3)];
    assert_eq!(lookups.finished(now, |_| false), []);
    assert!(lookups.heard.is_empty() && lookups.due(now).is_empty(), "nothing has happened");
    lookups.answer(queries[1], ONE, Answer::Nothing);
    assert_eq!(lookups.heard, BTreeSet::from([queries[1]]));
    assert_eq!(lookups.finished(now, |_| false).len(), 1);
    lookups.begin_anew(OriginHash::new(1));
    assert_eq!(lookups.due, BTreeSet::from([(now + PATIENCE, queries[2])]), "what is over leaves nothing");
    assert_eq!(lookups.finished(now + PATIENCE, |_| false).len(), 1);
    assert_eq!(lookups.next_deadline(), None);
    assert!(lookups.open.is_empty() && lookups.by_origin.is_empty() && lookups.heard.is_empty());
}

#[test]
fn a_host_that_is_named_and_does_not_answer_is_told_of() {
    let now = Instant::now();
    for (answer, finding) in
        [(None, Finding::HostSilent(OTHER, None)), (Some(Answer::Unsure), Finding::Unanswered(None))]
    {
        let mut lookups = Lookups::default();
        let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true)]).expect("new");
        assert!(!lookups.ask_host(query, OTHER, false), "it cannot be asked yet");
        lookups.answer(query, ONE, Answer::Unsure);
        assert_eq!(endings(&mut lookups), [], "it is waited for");
        assert_eq!(lookups.peer_answers(OTHER), [(query, ORIGIN)]);
        if let Some(answer) = answer {
            lookups.answer(query, OTHER, answer);
        }
        let late: Vec<_> =
            lookups.finished(now + 2 * PATIENCE, |_| false).into_iter().map(|ended| ended.finding).collect();
        assert_eq!(late, [finding]);
    }
}

#[test]
fn who_is_arriving_waits_for_homes_that_it_has_yet_to_meet_and_who_is_apart_does_not_know_whom_to_ask() {
    let now = Instant::now();
    for haste in [Haste::SkipSilent, Haste::WaitForAll] {
        let mut lookups = Lookups::default();
        lookups.stand(Standing::Arriving, now);
        let query = begin(&mut lookups, haste, &[(ONE, false), (OTHER, true)]).expect("new");
        lookups.answer(query, OTHER, Answer::Nothing);
        assert_eq!(endings(&mut lookups), [], "{haste:?}: the one that it is about to meet may know");
        assert_eq!(lookups.peer_answers(ONE), [(query, ORIGIN)]);
        lookups.answer(query, ONE, Answer::Nothing);
        assert_eq!(endings(&mut lookups), [Finding::NotFound(None)], "{haste:?}");
        let mut lookups = Lookups::default();
        lookups.stand(Standing::Seeking, now);
        begin(&mut lookups, haste, &[]).expect("new");
        assert_eq!(endings(&mut lookups), [], "{haste:?}: it has yet to learn whom to ask");
    }
}

#[test]
fn what_was_not_known_while_this_node_was_seeking_is_asked_again_when_it_arrives() {
    let now = Instant::now();
    let mut lookups = Lookups::default();
    lookups.stand(Standing::Seeking, now);
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true)]).expect("new");
    lookups.answer(query, ONE, Answer::Nothing);
    lookups.stand(Standing::Arriving, now);
    assert_eq!(endings(&mut lookups), []);
    assert_eq!(lookups.again(now), [(query, ORIGIN, ONE)]);
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(endings(&mut lookups), [Finding::NotFound(None)]);
}

#[test]
fn a_copy_in_doubt_is_told_of_whoever_else_is_silent_and_by_nobody_who_was_not_asked() {
    let now = Instant::now();
    let late = |lookups: &mut Lookups| -> Vec<Finding> {
        lookups.finished(now + 2 * PATIENCE, |_| false).into_iter().map(|ended| ended.finding).collect()
    };
    let mut lookups = Lookups::default();
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true), (OTHER, true)]).expect("new");
    lookups.in_doubt(query, ONE);
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(late(&mut lookups), [Finding::InDoubt(None)], "another did not answer");
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true)]).expect("new");
    lookups.in_doubt(query, ONE);
    lookups.answer(query, ONE, Answer::Nothing);
    lookups.ask_host(query, OTHER, false);
    assert_eq!(late(&mut lookups), [Finding::InDoubt(None)], "a silent one is named as the host");
    let query = begin(&mut lookups, Haste::SkipSilent, &[(ONE, true)]).expect("new");
    lookups.in_doubt(query, OTHER);
    lookups.answer(query, ONE, Answer::Nothing);
    assert_eq!(late(&mut lookups), [Finding::NotFound(None)], "what nobody was asked is not heard");
}

/// A claim of a daemon for a host.
fn claim_of(daemon: &EntityKeypair, host: &EntityKeypair, epoch: u64) -> Claim {
    let epoch = Epoch::new(epoch);
    let (entity, host, lineage) = (daemon.entity_id(), host.entity_id(), Lineage::new(1));
    let body = ClaimBody { entity, lineage, epoch, min_epoch: epoch, host, incarnation: None };
    Claim::sign(body, daemon).expect("a full key pair")
}

#[test]
fn of_several_claims_the_latest_is_found_whose_host_is_not_dead() {
    let [daemon, one, other] = [(); 3].map(|()| EntityKeypair::generate());
    for epochs in [[2, 3], [3, 2]] {
        let claims = [claim_of(&daemon, &one, epochs[0]), claim_of(&daemon, &other, epochs[1])];
        let [earlier, later] = if epochs[0] < epochs[1] { [0, 1] } else { [1, 0] };
        for (dead, found) in [(0, later), (3, earlier)] {
            let mut lookups = Lookups::default();
            let (peers, now) = ([(ONE, true), (OTHER, true)], Instant::now());
            let query = lookups.begin(daemon.origin_hash(), Haste::WaitForAll, peers.into_iter(), now).expect("new");
            for (by, claim) in [ONE, OTHER].into_iter().zip(&claims) {
                lookups.answer(query, by, Answer::Claim(claim.clone()));
            }
            let endings = lookups.finished(now, |claim| claim.body().epoch == Epoch::new(dead));
            let found = Found { claim: claims[found].clone(), by: [ONE, OTHER][found] };
            let finding = Finding::Found(found);
            assert_eq!(endings, [Ended { origin: daemon.origin_hash(), finding, unheard: BTreeSet::new() }]);
        }
    }
}

#[test]
fn the_end_tells_the_newest_of_the_claims_that_do_not_hold() {
    let [daemon, host] = [(); 2].map(|()| EntityKeypair::generate());
    for epochs in [[2, 3], [3, 2]] {
        let mut lookups = Lookups::default();
        let query = begin(&mut lookups, Haste::WaitForAll, &[(ONE, true)]).expect("new");
        for epoch in epochs {
            lookups.outdated(query, claim_of(&daemon, &host, epoch));
        }
        lookups.answer(query, ONE, Answer::Nothing);
        assert_eq!(endings(&mut lookups), [Finding::NotFound(Some(claim_of(&daemon, &host, 3)))]);
    }
}

#[test]
fn who_is_not_sure_is_asked_more_and_more_seldom() {
    let mut lookups = Lookups::default();
    let mut now = Instant::now();
    let query = lookups.begin(ORIGIN, Haste::WaitForAll, std::iter::once((ONE, true)), now).expect("new");
    for times in [1, 2, 4, 8] {
        lookups.answer(query, ONE, Answer::Unsure);
        let due = lookups.next_deadline().expect("it is to be asked again");
        assert_eq!(due - now, times * AGAIN);
        assert_eq!(lookups.again(due), [(query, ORIGIN, ONE)]);
        now = due;
    }
}
