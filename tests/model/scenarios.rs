//! Who is at work, on what, and what may befall them.

use super::{
    protocol::{Kind, Scenario},
    state::{Chunks, FIRST_SNAPSHOTS},
};

const A: Chunks = 1;
const B: Chunks = 2;
const C: Chunks = 4;

const IMPORT: Kind = Kind::Writer { own: A | B, base: None };
const OTHER_IMPORT: Kind = Kind::Writer { own: A | C, base: None };
const EDIT: Kind = Kind::Writer { own: B, base: Some(0) };
const OTHER_EDIT: Kind = Kind::Writer { own: A | C, base: Some(0) };
const PRUNE: Kind = Kind::Pruner { keeps_old: true, is_lavish: false };
const OTHER_PRUNE: Kind = Kind::Pruner { keeps_old: false, is_lavish: false };
const LAVISH_PRUNE: Kind = Kind::Pruner { keeps_old: true, is_lavish: true };

/// Two packs, one of them garbage, and nobody.
const USUAL: Scenario = Scenario {
    name: "",
    packs: &[A, B],
    deltas: &[],
    writes_deltas: false,
    old_mark: 0b00,
    snapshots: &[B],
    trash: &[],
    runs: &[],
    crashes: 0,
    wrong_deaths: 0,
    slow_listings: false,
    late_listings: false,
};

pub const CRASHES: Scenario = Scenario {
    name: "a writer and two prunes, two of which crash",
    runs: &[(IMPORT, None), (PRUNE, None), (OTHER_PRUNE, Some(1))],
    crashes: 2,
    ..USUAL
};

pub const WRONG_DEATHS: Scenario = Scenario {
    name: "a writer and two prunes, one of which is presumed dead wrongly",
    runs: CRASHES.runs,
    wrong_deaths: 1,
    ..USUAL
};

pub const SLOW_LISTINGS: Scenario = Scenario {
    name: "a writer and a prune, one of which is presumed dead wrongly, while listings take time",
    old_mark: 0b10,
    runs: &[(IMPORT, None), (PRUNE, None)],
    wrong_deaths: 1,
    slow_listings: true,
    ..USUAL
};

pub const TWO_PRUNERS: Scenario = Scenario {
    name: "two pruners and one after them, two of which are presumed dead wrongly",
    packs: &[A, A | B],
    snapshots: &[A],
    runs: &[(PRUNE, None), (OTHER_PRUNE, None), (PRUNE, Some(0))],
    wrong_deaths: 2,
    ..USUAL
};

pub const EDITED: Scenario = Scenario {
    name: "an edit of a snapshot that is forgotten, and two prunes",
    old_mark: 0b01,
    snapshots: &[A],
    runs: &[(EDIT, None), (Kind::Forget(0), None), (PRUNE, None), (OTHER_PRUNE, Some(2))],
    ..USUAL
};

pub const UNDELETED: Scenario = Scenario {
    name: "an undelete and two prunes, one of which crashes and one is presumed dead wrongly",
    trash: &[A],
    runs: &[(Kind::Undelete(1), None), (PRUNE, None), (OTHER_PRUNE, Some(1))],
    crashes: 1,
    wrong_deaths: 1,
    ..USUAL
};

pub const FORGOTTEN: Scenario = Scenario {
    name: "a forget that is undone, and two prunes, while listings take time",
    snapshots: &[A, B],
    runs: &[(Kind::Forget(0), None), (Kind::Undelete(0), Some(0)), (PRUNE, None), (OTHER_PRUNE, Some(2))],
    slow_listings: true,
    ..USUAL
};

pub const MADE_AND_FORGOTTEN: Scenario = Scenario {
    name: "a snapshot that is made, forgotten and undeleted, and two prunes",
    runs: &[
        (IMPORT, None),
        (Kind::Forget(FIRST_SNAPSHOTS), Some(0)),
        (Kind::Undelete(FIRST_SNAPSHOTS), Some(1)),
        (PRUNE, None),
        (OTHER_PRUNE, Some(3)),
    ],
    ..USUAL
};

pub const READ: Scenario = Scenario {
    name: "a reader, a writer and two prunes",
    packs: &[A | B],
    runs: &[(Kind::Reader(0), None), (IMPORT, None), (PRUNE, None), (OTHER_PRUNE, Some(2))],
    ..USUAL
};

pub const LATE_LISTINGS: Scenario = Scenario {
    name: "a writer and a prune, while listings are late",
    runs: &[(IMPORT, None), (PRUNE, None)],
    late_listings: true,
    ..USUAL
};

pub const LATE_PRUNERS: Scenario = Scenario {
    name: "two prunes, while listings are late",
    packs: &[A, A | B],
    snapshots: &[A],
    runs: &[(PRUNE, None), (OTHER_PRUNE, None)],
    late_listings: true,
    ..USUAL
};

pub const LATE_UNDELETE: Scenario = Scenario {
    name: "an undelete and a prune, while listings are late",
    trash: &[A],
    runs: &[(Kind::Undelete(1), None), (PRUNE, None)],
    late_listings: true,
    ..USUAL
};

pub const DELTAS: Scenario = Scenario {
    name: "a writer of deltas and two prunes, the first of which leaves a delta without its base",
    packs: &[A, B | C],
    deltas: &[0, C],
    writes_deltas: true,
    runs: &[(Kind::Writer { own: B | C, base: None }, None), (LAVISH_PRUNE, None), (OTHER_PRUNE, Some(1))],
    ..USUAL
};

pub const MOVED: Scenario = Scenario {
    name: "a forget that is undone, another one, and a prune, of whom one crashes",
    runs: &[(Kind::Forget(0), None), (Kind::Undelete(0), Some(0)), (Kind::Forget(0), None), (PRUNE, None)],
    crashes: 1,
    ..USUAL
};

const TWO_WRITERS: Scenario = Scenario {
    name: "two writers and a prune, one of which crashes",
    runs: &[(IMPORT, None), (OTHER_EDIT, None), (PRUNE, None)],
    crashes: 1,
    ..USUAL
};

const IN_TURN: Scenario = Scenario {
    name: "two writers and two prunes, each after the other, one of which crashes",
    runs: &[(IMPORT, None), (OTHER_EDIT, Some(0)), (PRUNE, None), (OTHER_PRUNE, Some(2))],
    crashes: 1,
    ..USUAL
};

const TWO_OF_EACH: Scenario = Scenario {
    name: "two writers and two prunes",
    runs: &[(IMPORT, None), (OTHER_IMPORT, None), (PRUNE, None), (OTHER_PRUNE, Some(2))],
    ..USUAL
};

/// What takes seconds.
pub const SMALL: &[Scenario] = &[
    CRASHES,
    WRONG_DEATHS,
    SLOW_LISTINGS,
    TWO_PRUNERS,
    EDITED,
    UNDELETED,
    FORGOTTEN,
    MADE_AND_FORGOTTEN,
    READ,
    LATE_LISTINGS,
    LATE_PRUNERS,
    LATE_UNDELETE,
    DELTAS,
    MOVED,
    TWO_WRITERS,
    IN_TURN,
];

/// What takes minutes, and gigabytes.
pub const LARGE: &[Scenario] = &[
    TWO_OF_EACH,
    Scenario {
        name: "two writers, one of them twice, and two prunes",
        runs: &[(IMPORT, None), (OTHER_EDIT, None), (IMPORT, Some(0)), (PRUNE, None), (OTHER_PRUNE, Some(3))],
        ..USUAL
    },
    Scenario {
        name: "two writers and two prunes, one of which crashes and one is presumed dead wrongly",
        runs: &[(IMPORT, None), (OTHER_EDIT, None), (PRUNE, None), (OTHER_PRUNE, Some(2))],
        crashes: 1,
        wrong_deaths: 1,
        ..USUAL
    },
    Scenario {
        name: "a writer, two pruners and one after them, two of which are presumed dead wrongly",
        packs: &[A, A | B],
        runs: &[(IMPORT, None), (PRUNE, None), (OTHER_PRUNE, None), (OTHER_PRUNE, Some(1))],
        wrong_deaths: 2,
        ..USUAL
    },
    Scenario {
        name: "an edit, a forget and two prunes, one crash and one wrong death, while listings take time",
        crashes: 1,
        wrong_deaths: 1,
        slow_listings: true,
        ..EDITED
    },
    Scenario {
        name: "an edit, a forget that is undone, and two prunes, one of which is presumed dead wrongly",
        runs: &[
            (EDIT, None),
            (Kind::Forget(0), None),
            (Kind::Undelete(0), Some(1)),
            (PRUNE, None),
            (OTHER_PRUNE, Some(3)),
        ],
        wrong_deaths: 1,
        ..EDITED
    },
];
