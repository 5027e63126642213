//! Whether writers, pruners and people who forget and undelete can be at work at once, on files alone (SPEC §11).
//!
//! The protocol is modelled, and every order in which its steps can follow one another is walked through. A step is one operation on one
//! file, or one listing. Between any two steps any process may vanish, and its session stays until somebody finds it dead; a session may
//! be ended though its process goes on, as after seven days of silence; and where listings take time, what comes and goes meanwhile is
//! listed or not, each file for itself. Then: is every snapshot whole at every moment, can what is in the trash be undeleted whole, does
//! nobody fail for want of a chunk unless a session was ended wrongly, is no record ever nowhere, and if all processes vanish, does one prune
//! leave no garbage and lose nothing? The exceptions: a writer whose session is ended wrongly between its two looks at it, or is listed late, may
//! have written a snapshot that lacks something; it withdraws it, and never says that it is committed. And who crashes while he has the only copy
//! of a record in his hands leaves its spare.
//!
//! Where listings are late, each may show any state of its folder since the last time that a prune has waited, each file for itself; what is
//! listed and not there is not there when it is read. A file that is asked for by its name is there or not. Who begins just after a mark and reads
//! it late may then fail, but never says that he has what he has not.
//!
//! Every rule of the protocol can be switched off, and for every rule that safety needs a way is found in which it is missed.
//!
//! What is left out, and why it may be:
//! - Segments. Packs that no segment names are read through their directories, and what a segment says of a pack that is gone does not
//!   count: what a process knows of chunks is what its list of packs says, and that is listed after segments are read.
//! - The time that a listing of marks or packs takes. A mark that is missed came after the listing began, as if it had been quick; one that
//!   is gone was swept, and packs are listed after marks. A pack that is listed though it is gone was named by a mark that was read.
//! - Parked runs. They are roots as snapshots are, and are written and deleted by writers as these forget.
//! - Power cuts. What a step wrote is durable before the next; `crash` asks what is left if it is not.

mod moving;
mod protocol;
mod pruner;
mod scenarios;
mod search;
mod state;
mod writer;

use protocol::{Model, Protocol, Scenario};
use scenarios::*;
use search::{Found, search};

type Switch = fn(&mut Protocol);

/// A rule, what switches it off, where it is then missed, and as what.
type Missed = (&'static str, Switch, Scenario, &'static str);

const LACKS: &str = "lacks";
const GARBAGE: &str = "leaves garbage";
const LOST: &str = "is lost";
const FAILS: &str = "failed for want of a chunk";
const NO_UNDELETE: &str = "can no more be undeleted";

/// Rules of which each is a defence of its own: where sessions are seen, they suffice, and where they are not, what is checked does. So what each is for
/// shows where the check is left out, too.
fn unchecked(protocol: &mut Protocol) {
    (protocol.checks_before, protocol.checks_after, protocol.stores_again) = (false, false, false);
}

/// Rules that are missed even where writers check what they rely on.
fn missed_rules() -> Vec<Missed> {
    vec![
        (
            "marks that name what is carried over are not acknowledged",
            |p| p.acknowledges_what_it_can = false,
            EDITED,
            FAILS,
        ),
        ("marked copies are none", |p| (p.marked_copies_are_none, p.stores_again) = (false, false), CRASHES, FAILS),
        ("the base is chosen under a session", |p| p.chooses_base_late = false, EDITED, FAILS),
        ("a look for the session", |p| (p.looks_for_session, p.checks_before) = (false, false), WRONG_DEATHS, LACKS),
        ("another session", |p| p.announces_anew = false, WRONG_DEATHS, LACKS),
        ("undelete gives way to pruners", |p| p.undelete_looks_for_pruners = false, UNDELETED, FAILS),
        ("undelete is a writer", |p| p.undelete_is_a_writer = false, UNDELETED, LACKS),
        ("readers look again", |p| p.readers_look_again = false, READ, FAILS),
        ("a check after the snapshot", |p| p.checks_after = false, LATE_LISTINGS, LACKS),
        ("a check reads marks first", |p| p.checks_marks_first = false, LATE_LISTINGS, LACKS),
        ("what is marked is stored again", |p| p.stores_again = false, CRASHES, FAILS),
        ("a wait before sessions", |p| p.waits_for_sessions = false, LATE_LISTINGS, LACKS),
        ("a wait before roots", |p| p.waits_for_roots = false, LATE_LISTINGS, LACKS),
        ("a prune looks at its plan again", |p| p.looks_at_plan_again = false, LATE_PRUNERS, LACKS),
        ("deltas need their bases", |p| p.deltas_need_bases = false, DELTAS, LACKS),
        ("bases are needed", |p| p.bases_are_needed = false, DELTAS, "loses C"),
        ("a copy before the deletion", |p| p.copies_before_it_deletes = false, MOVED, LOST),
        ("a look for the copy", |p| p.looks_for_copy = false, MOVED, LOST),
        ("another look for the snapshot", |p| p.looks_for_snapshot_again = false, MOVED, LOST),
        ("what is in both folders is a snapshot", |p| p.both_is_a_snapshot = false, MOVED, GARBAGE),
        (
            "snapshots before trash",
            |p| (p.roots_before_trash, p.lists_trash_again) = (false, false),
            FORGOTTEN,
            NO_UNDELETE,
        ),
        ("chunks are moved out of marked packs", |p| p.moves_out_of_marked = false, TWO_PRUNERS, LACKS),
        ("trash again", |p| p.lists_trash_again = false, MADE_AND_FORGOTTEN, NO_UNDELETE),
        ("a pruner looks for its session", |p| p.looks_for_own_session = false, TWO_PRUNERS, LACKS),
        ("old marks wait for the second listing", |p| p.waits_for_second_listing = false, EDITED, FAILS),
        ("trash before packs", |p| p.trash_before_packs = false, FORGOTTEN, NO_UNDELETE),
        (
            "a pruner reads marks before the index",
            |p| (p.marks_before_sessions, p.sessions_before_roots) = (false, false),
            TWO_PRUNERS,
            LACKS,
        ),
    ]
}

/// Rules that are missed where writers rely on their sessions.
fn missed_rules_of_sessions() -> Vec<Missed> {
    vec![
        ("a session before marks", |p| p.announces_first = false, CRASHES, LACKS),
        ("marks before packs", |p| p.marks_before_packs = false, CRASHES, LACKS),
        ("the first session is kept", |p| p.keeps_first_session = false, SLOW_LISTINGS, LACKS),
        ("marked copies are none", |p| p.marked_copies_are_none = false, CRASHES, LACKS),
        ("a look for the session", |p| p.looks_for_session = false, WRONG_DEATHS, LACKS),
        ("it is the first session", |p| p.looks_for_first_session = false, SLOW_LISTINGS, LACKS),
        ("another look for the session", |p| p.looks_for_session_again = false, WRONG_DEATHS, LACKS),
        ("what is carried over is copied", |p| p.copies_what_it_carries = false, UNDELETED, LACKS),
        ("the mark before sessions", |p| p.mark_before_sessions = false, CRASHES, LACKS),
        ("roots again", |p| p.lists_roots_again = false, CRASHES, LACKS),
        (
            "old marks wait for roots",
            |p| (p.old_marks_wait_for_roots, p.waits_for_first_listing) = (false, false),
            CRASHES,
            LACKS,
        ),
        ("packs before marks", |p| p.packs_before_marks = false, CRASHES, LACKS),
    ]
}

fn assert_holds(scenarios: &[Scenario]) {
    for scenario in scenarios {
        let Found { states, violation } = search(&Model { protocol: &Protocol::WHOLE, scenario });
        println!("{states:8} states: {}", scenario.name);
        assert!(violation.is_none(), "{}", violation.unwrap_or_default());
        assert!(states > 1000, "{}: too little happens to be of interest", scenario.name);
    }
}

#[test]
fn the_protocol_keeps_every_snapshot_whole() {
    assert_holds(SMALL);
}

#[test]
fn the_protocol_keeps_every_snapshot_whole_in_large_searches() {
    if std::env::var_os("HEIRLOOM_MODEL").is_some_and(|size| size == "large") {
        assert_holds(LARGE);
    }
}

fn assert_missed(rules: Vec<Missed>, of: Protocol) {
    for (rule, switch_off, scenario, expected) in rules {
        let mut protocol = of;
        switch_off(&mut protocol);
        let violation = search(&Model { protocol: &protocol, scenario: &scenario }).violation;
        let violation = violation.unwrap_or_else(|| panic!("without \"{rule}\" nothing goes wrong"));
        println!("without \"{rule}\": {violation}\n");
        assert!(violation.lines().next().is_some_and(|line| line.contains(expected)), "{rule}: {violation}");
    }
}

#[test]
fn every_rule_of_the_protocol_is_needed() {
    assert_missed(missed_rules(), Protocol::WHOLE);
}

#[test]
fn every_rule_of_sessions_is_needed_where_nothing_is_checked() {
    let mut protocol = Protocol::WHOLE;
    unchecked(&mut protocol);
    for scenario in [CRASHES, WRONG_DEATHS, SLOW_LISTINGS, UNDELETED] {
        let violation = search(&Model { protocol: &protocol, scenario: &scenario }).violation;
        assert!(violation.is_none(), "{}", violation.unwrap_or_default());
    }
    assert_missed(missed_rules_of_sessions(), protocol);
}

#[test]
fn rules_that_safety_does_not_need() {
    // They save work, or tell a person sooner: what is listed again after the mark is all that decides.
    let first = Protocol { waits_for_first_listing: false, sessions_before_roots: false, ..Protocol::WHOLE };
    let marks = Protocol { prefers_unmarked: false, marks_before_sessions: false, ..Protocol::WHOLE };
    let alone = Protocol { prunes_alone: false, ..Protocol::WHOLE };
    let rules =
        [(&first, &CRASHES), (&first, &EDITED), (&marks, &EDITED), (&marks, &TWO_PRUNERS), (&alone, &TWO_PRUNERS)];
    for (protocol, scenario) in rules {
        let violation = search(&Model { protocol, scenario }).violation;
        assert!(violation.is_none(), "{}", violation.unwrap_or_default());
    }
}
