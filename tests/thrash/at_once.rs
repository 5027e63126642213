//! Several at once, undisturbed and killed.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    Dice, Generation, Generations, Key, Program, Tally, assert_nothing_is_left, json, ledger::Ledger, number_of, rows,
    seed,
};
use crate::support::{
    folder::folder_at,
    program::{Home, Said, only_child},
};

const SECONDS_DEFAULT: u64 = 20;
const DAYS: u64 = 4;

/// A repository `repo` in which many are at work, and `second`, into which is copied.
struct Thrash {
    home: Home,
    generations: Generations,
    ledger: Ledger,
    tally: Tally,
    end: Instant,
    has_failed: AtomicBool,
    kills: bool,
}

impl Thrash {
    fn new(kills: bool, dice: &mut Dice) -> Thrash {
        let home = Home::new();
        home.ok(&["--repo", "second", "init", "--no-password"]);
        let phone = Generations::of_a_phone(dice.roll(1000), DAYS, &home.path(""));
        let small = Generations::that_share(&phone, &home.path(""));
        let generations = Generations::new(phone.into_iter().chain(small));
        let end = Instant::now() + Duration::from_secs(number_of("HEIRLOOM_THRASH_SECONDS").unwrap_or(SECONDS_DEFAULT));
        Thrash {
            home,
            generations,
            ledger: Ledger::default(),
            tally: Tally::default(),
            end,
            has_failed: AtomicBool::new(false),
            kills,
        }
    }

    fn run(&self, dice: &mut Dice) {
        let devices: BTreeSet<&String> = self.generations.0.keys().map(|(udid, _)| udid).collect();
        thread::scope(|scope| {
            for (number, udid) in devices.into_iter().enumerate() {
                let mut writer = Actor::new(self, dice, number);
                let own: Vec<&Generation> = self.generations.0.values().filter(|own| own.key.0 == *udid).collect();
                scope.spawn(move || writer.repeat(|writer| writer.import(&own)));
            }
            let mut keeper = Keeper { actor: Actor::new(self, dice, 0), pinned: Vec::new() };
            scope.spawn(move || keeper.work());
            let look = |actor: &mut Actor| actor.look();
            let acts: [fn(&mut Actor); 4] = [|actor| actor.prune_now_and_then(), |actor| actor.copy(), look, look];
            for (number, act) in acts.into_iter().enumerate() {
                let mut actor = Actor::new(self, dice, number % 2);
                scope.spawn(move || actor.repeat(act));
            }
        });
        self.verify(dice);
        let seconds = number_of("HEIRLOOM_THRASH_SECONDS").unwrap_or(SECONDS_DEFAULT);
        let how = if self.kills { "killed now and then" } else { "undisturbed" };
        self.tally.print(format_args!(
            "{seconds} s, {how}: {} snapshots kept, {} forgotten",
            self.ledger.kept().len(),
            self.ledger.forgotten().len()
        ));
    }

    /// Does this again and again until the time is over, or somebody has failed: what was done after that would cover the traces.
    fn repeat(&self, mut act: impl FnMut()) {
        let _alarm = Alarm(&self.has_failed);
        while Instant::now() < self.end && !self.has_failed.load(Ordering::Relaxed) {
            act();
        }
    }

    /// Asks everything at the end.
    fn verify(&self, dice: &mut Dice) {
        let program = Actor::new(self, dice, 0).program;
        let in_doubt = self.ledger.in_doubt();
        self.ledger.settle(&in_doubt, &ids(&program.listed()), &BTreeSet::new());
        program.ok(&["prune", "--now", "--max-unused", "0"]);
        let listed = program.listed();
        let (kept, forgotten) = (self.ledger.kept(), self.ledger.forgotten());
        let lost: Vec<_> = kept.difference(&ids(&listed)).cloned().collect();
        assert_eq!(lost, [""; 0], "kept and lost");
        let back: Vec<_> = forgotten.intersection(&ids(&listed)).cloned().collect();
        assert_eq!(back, [""; 0], "forgotten and listed");
        self.assert_whole(&program, &listed, "repo");
        assert_eq!(program.ok(&["snapshots", "--trash"]), serde_json::json!([]));

        let second = Program { variables: vec![("HEIRLOOM_REPOSITORY", "second".into())], ..program };
        let first = Actor::new(self, dice, 0).program;
        first.ok(&["copy", "--to", "second"]);
        second.ok(&["prune", "--now"]);
        let copied = second.listed();
        let keys = |listed: &[(String, Key)]| listed.iter().map(|(_, key)| key.clone()).collect::<BTreeSet<Key>>();
        assert!(keys(&copied).is_superset(&keys(&listed)), "not all of it was copied");
        self.assert_whole(&second, &copied, "second");
    }

    /// All of a repository is whole and exact, and nothing is left in it.
    fn assert_whole(&self, program: &Program, listed: &[(String, Key)], repository: &str) {
        program.ok(&["check", "--read-data"]);
        assert_nothing_is_left(&self.home.path(repository));
        for (id, key) in listed {
            program.assert_exact(id, key, &self.generations);
        }
    }
}

/// Tells the others when the one who has it fails.
struct Alarm<'t>(&'t AtomicBool);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        self.0.fetch_or(thread::panicking(), Ordering::Relaxed);
    }
}

fn ids(listed: &[(String, Key)]) -> BTreeSet<String> {
    listed.iter().map(|(id, _)| id.clone()).collect()
}

/// One who does one thing after another.
struct Actor<'t> {
    thrash: &'t Thrash,
    program: Program<'t>,
    dice: Dice,
    /// Whether its last command was killed.
    was_killed: bool,
}

impl<'t> Actor<'t> {
    /// At one of several computers, each of which has a cache of its own.
    fn new(thrash: &'t Thrash, dice: &mut Dice, computer: usize) -> Actor<'t> {
        let cache = thrash.home.path(&format!("cache{computer}"));
        let variables = vec![("XDG_CACHE_HOME", cache.to_str().unwrap().to_owned())];
        let program = Program { home: &thrash.home, variables, tally: &thrash.tally };
        Actor { thrash, program, dice: dice.fork(), was_killed: false }
    }

    fn repeat(&mut self, mut act: impl FnMut(&mut Self)) {
        let thrash = self.thrash;
        thrash.repeat(|| act(self));
    }

    /// Runs a command that writes, which may be killed, but not twice in succession: what comes after a kill must go well.
    fn write(&mut self, args: &[&str]) -> Option<Said> {
        let is_killed = self.thrash.kills && !self.was_killed && self.dice.roll(3) == 0;
        let life = is_killed.then(|| self.thrash.tally.moment(args[0], &mut self.dice));
        let said = self.program.run(args, life);
        self.was_killed = said.is_none();
        said
    }

    fn import(&mut self, generations: &[&Generation]) {
        let generation = *self.dice.pick(generations);
        let mut args = vec!["import", generation.path()];
        args.extend((self.dice.roll(2) == 0).then_some("--force"));
        let begun = self.thrash.ledger.begin_import();
        let Some(said) = self.write(&args) else { return };
        assert_quiet(&args, &said);
        let row = &json(&said)[0];
        if row["outcome"] == "kept" {
            self.thrash.ledger.keep(row["snapshot"]["id"].as_str().unwrap(), begun);
        }
    }

    /// Prunes, but leaves others the time to undelete.
    fn prune_now_and_then(&mut self) {
        if self.dice.roll(3) == 0 { self.prune() } else { self.look() }
    }

    fn prune(&mut self) {
        let ways: [&[&str]; 3] = [&["prune"], &["prune", "--max-unused", "0"], &["prune", "--now"]];
        let args = *self.dice.pick(&ways);
        let Some(said) = self.write(args) else { return };
        assert_pruned(args, &said);
    }

    fn copy(&mut self) {
        let args = ["copy", "--to", "second"];
        let Some(said) = self.write(&args) else { return };
        assert_quiet(&args, &said);
    }

    /// One of the commands that read.
    fn look(&mut self) {
        let then = self.thrash.ledger.now();
        match self.dice.roll(5) {
            0 => {
                let listed = ids(&self.program.listed());
                let missing: Vec<_> = self.thrash.ledger.since(&then).difference(&listed).cloned().collect();
                assert_eq!(missing, [""; 0], "kept all the time, and not listed");
            }
            1 => drop(self.program.ok(&["check", "--read-data"])),
            choice => {
                let ids = then.ids();
                let Some(id) = ids.get(self.dice.roll(1 + ids.len() as u64) as usize) else { return };
                if choice == 2 {
                    let args = ["ls", "--recursive", id];
                    let said = self.program.run(&args, None).expect("nobody kills it");
                    self.assert_read(&args, &said, self.thrash.ledger.since(&then).contains(id));
                } else {
                    self.export(id, || self.thrash.ledger.since(&then).contains(id));
                }
            }
        }
    }

    fn export(&self, id: &str, is_kept_since: impl Fn() -> bool) {
        let to = tempfile::tempdir_in(self.thrash.home.path("")).unwrap();
        let args = ["export", id, "--to", to.path().to_str().unwrap()];
        let key = rows(&self.program.ok(&["snapshots"])).into_iter().find(|(listed, _)| listed == id);
        let said = self.program.run(&args, None).expect("nobody kills it");
        self.assert_read(&args, &said, is_kept_since());
        if said.exit == 0 {
            let folder = only_child(to.path());
            let (_, key) = key.unwrap_or_else(|| panic!("{id} came back"));
            self.thrash.generations.assert_exact(&key, &folder_at(&folder));
        }
    }

    /// It went well, or it said that the snapshot is not there, which is allowed if somebody has forgotten it.
    fn assert_read(&self, args: &[&str], said: &Said, is_kept: bool) {
        let is_gone = said.stderr.contains("no snapshot is called")
            || said.stderr.contains("there are no snapshots yet")
            || said.stderr.contains("is not there any more");
        if is_kept || said.exit != 1 || !is_gone {
            assert_quiet(args, said);
        }
    }
}

/// The one who forgets, undeletes and pins.
struct Keeper<'t> {
    actor: Actor<'t>,
    pinned: Vec<String>,
}

impl Keeper<'_> {
    fn work(&mut self) {
        let thrash = self.actor.thrash;
        thrash.repeat(|| match self.actor.dice.roll(8) {
            0 | 1 => self.forget_named(),
            2 | 3 => self.forget_by_rules(),
            4 | 5 => self.undelete(),
            6 => self.pin(),
            _ => self.actor.prune(),
        });
    }

    fn forget_named(&mut self) {
        let ids = self.actor.thrash.ledger.now().ids();
        if ids.len() < 2 {
            return;
        }
        let id = self.actor.dice.pick(&ids).clone();
        if self.pinned.contains(&id) {
            let said = self.actor.program.run(&["forget", &id], None).expect("nobody kills it");
            assert!(said.exit == 1 && said.stderr.contains("is pinned"), "{said:?}");
            return;
        }
        self.actor.thrash.ledger.doubt(std::slice::from_ref(&id));
        self.forget(&["forget", &id]);
    }

    fn forget_by_rules(&mut self) {
        self.actor.thrash.ledger.doubt_all();
        let prunes = self.actor.dice.roll(3) == 0;
        let args = ["forget", "--keep-last", "2", "--prune"];
        self.forget(&args[..if prunes { 4 } else { 3 }]);
    }

    /// Runs it, and finds out what it did.
    fn forget(&mut self, args: &[&str]) {
        let said = self.actor.write(args);
        if args.contains(&"--keep-last") {
            self.actor.thrash.ledger.doubt_no_more();
        }
        let mut removed = BTreeSet::new();
        if let Some(said) = said {
            assert_pruned(args, &said);
            let first = serde_json::Deserializer::from_str(&said.stdout).into_iter::<serde_json::Value>().next();
            removed = ids(&rows(&first.unwrap().unwrap()["removed"]));
        }
        self.settle(&removed);
    }

    fn settle(&self, removed: &BTreeSet<String>) {
        let in_doubt = self.actor.thrash.ledger.in_doubt();
        let listed = ids(&self.actor.program.listed());
        assert!(listed.is_disjoint(removed), "it is listed, and was forgotten");
        self.actor.thrash.ledger.settle(&in_doubt, &listed, removed);
    }

    fn undelete(&mut self) {
        let trash: Vec<String> =
            rows(&self.actor.program.ok(&["snapshots", "--trash"])).into_iter().map(|(id, _)| id).collect();
        let Some(id) = trash.get(self.actor.dice.roll(1 + trash.len() as u64) as usize) else { return };
        self.actor.thrash.ledger.doubt(std::slice::from_ref(id));
        let args = ["undelete", id];
        let said = self.actor.write(&args);
        self.settle(&BTreeSet::new());
        let is_kept = self.actor.thrash.ledger.kept().contains(id);
        match said {
            Some(said) if said.exit == 0 => assert!(is_kept && said.stderr.is_empty(), "{said:?}"),
            // Somebody else prunes, or has pruned it.
            Some(said) => {
                let is_pruned = said.exit == 1
                    && (said.stderr.contains("no snapshot is called")
                        || said.stderr.contains("the trash is empty")
                        || said.stderr.contains("is not there any more"));
                assert!(!is_kept && (said.exit == 11 || is_pruned), "{said:?}");
            }
            None => {}
        }
    }

    /// Pins one, or lets go of it.
    fn pin(&mut self) {
        if let Some(pinned) = self.pinned.pop() {
            self.actor.program.ok(&["unpin", &pinned]);
        } else if let Some(id) = self.actor.thrash.ledger.now().ids().first() {
            self.actor.program.ok(&["pin", id]);
            self.pinned.push(id.clone());
        }
    }
}

/// It did what it was told, and there was nothing to say.
#[track_caller]
fn assert_quiet(args: &[&str], said: &Said) {
    assert!(said.exit == 0 && said.stderr.is_empty(), "{args:?}: {said:?}");
}

/// The same of one who prunes, who may also be refused because another does, or be told who is at work.
#[track_caller]
fn assert_pruned(args: &[&str], said: &Said) {
    if said.exit == 11 {
        assert!(said.stderr.is_empty() || said.stderr.contains("busy"), "{args:?}: {said:?}");
    } else {
        assert_quiet(args, said);
    }
}

fn thrash(kills: bool) {
    let mut dice = Dice(seed());
    Thrash::new(kills, &mut dice).run(&mut dice);
}

#[test]
fn processes_at_once_lose_nothing_and_say_nothing_wrong() {
    thrash(false);
}

#[test]
fn processes_at_once_that_are_killed_lose_nothing_and_lock_nobody_out() {
    thrash(true);
}
