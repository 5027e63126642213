//! Names of snapshots as people type them: `1f3a9c2e`, `latest~2`, `Maria's iPhone`, `@2026-05`, `Maria's
//! iPhone@2026-05-03`.
//!
//! A name is what is left of `~N` and `@DATE`: an id or its beginning, `latest` or nothing for all devices, or a
//! device's name or UDID. Of the snapshots that it fits, taken by the end of DATE, the newest is meant, or the Nth
//! before it.
//!
//! A name means a device with its whole history, whatever it was called before. Devices may share a name, and a new
//! phone takes that of the one before it: the name then means the new one, and `NAME@DATE` the one that was called so
//! then.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use heirloom_store::Snapshot;
use jiff::{Span, Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    clock,
    failure::{Exit, Failure, Result},
    identity::usual_case,
    report::local_time,
    typed::{fold, plain_marks},
};

const SHORTEST_ID: usize = 4;
const MOST_CANDIDATES_SHOWN: usize = 10;
/// A phone that a new one of its name has replaced is not backed up for so long, in seconds,
const REPLACED_AFTER: i64 = 30 * 86_400;
/// and was not for longer than this beside the new one.
const SIDE_BY_SIDE_MAX: i64 = 7 * 86_400;

/// The one snapshot that `spec` names among `snapshots`, which are in the order of their age.
pub fn find<'s>(spec: &str, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot> {
    find_among(spec, snapshots, "`heirloom snapshots` lists them all")
}

/// The same, but `latest`, and a date without a device, mean the device of this UDID alone.
pub fn find_own<'s>(spec: &str, snapshots: &'s [Snapshot], udid: &str, name: &str) -> Result<&'s Snapshot> {
    let now = clock::now();
    let all: Vec<Candidate> = snapshots.iter().map(|snapshot| Candidate::of(snapshot, now)).collect();
    let zone = TimeZone::system();
    let parsed = parse(spec.trim(), &zone, &|who| all.iter().any(|candidate| candidate.is_of(who)));
    if !matches!(parsed.who, "" | "latest") || all.iter().any(|candidate| candidate.is_of(parsed.who)) {
        return find(spec, snapshots);
    }
    let own: Vec<usize> = (0..all.len()).filter(|&at| all[at].udid == udid).collect();
    if own.is_empty() && !all.is_empty() {
        return Err(Failure::failed(format!("there is no snapshot of {name} itself"))
            .hint("name the one that is meant, such as \"Maria's iPhone\"; `heirloom snapshots` lists them all"));
    }
    let candidates: Vec<Candidate> = own.iter().map(|&at| Candidate::of(&snapshots[at], now)).collect();
    resolve(spec, &candidates, &zone, "`heirloom snapshots` lists them all").map(|at| &snapshots[own[at]])
}

/// The same among those that were forgotten.
pub fn find_forgotten<'s>(spec: &str, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot> {
    find_among(spec, snapshots, "`heirloom snapshots --trash` lists what can be undeleted")
}

/// The one that `spec` names; `listed` is the hint for who has to look at the list.
fn find_among<'s>(spec: &str, snapshots: &'s [Snapshot], listed: &str) -> Result<&'s Snapshot> {
    let now = clock::now();
    let candidates: Vec<Candidate> = snapshots.iter().map(|snapshot| Candidate::of(snapshot, now)).collect();
    resolve(spec, &candidates, &TimeZone::system(), listed).map(|at| &snapshots[at])
}

/// Whether a device's name or UDID is meant by `text`: case, kinds of apostrophes and spaces, and how accents are
/// composed do not matter, nor does the dash of a UDID.
pub fn is_device(text: &str, udid: &str, name: Option<&str>) -> bool {
    let wanted = fold(text);
    !wanted.is_empty() && (usual_case(text) == usual_case(udid) || name.is_some_and(|name| fold(name) == wanted))
}

/// The UDIDs of the devices that `text` names among `snapshots`, which are in the order of their age.
pub fn devices(text: &str, snapshots: &[Snapshot]) -> BTreeSet<String> {
    let called = snapshots.iter().map(|snapshot| {
        let record = &snapshot.record;
        (&*record.series, record.device.get("name").map(String::as_str))
    });
    devices_called(text, called).into_iter().map(str::to_owned).collect()
}

/// The devices that are meant by a UDID or name, of all those that were called something, oldest first: those that are
/// called just so now, or else about so, or else were once.
fn devices_called<'a>(
    text: &str,
    called: impl Iterator<Item = (&'a str, Option<&'a str>)> + Clone,
) -> BTreeSet<&'a str> {
    let now: BTreeMap<&str, Option<&str>> = called.clone().collect();
    let now = || now.iter().map(|(udid, name)| (*udid, *name));
    let is_called = |name: Option<&str>| name.is_some_and(|name| name == text && !text.trim().is_empty());
    let udids = |those: &mut dyn Iterator<Item = (&'a str, Option<&'a str>)>| those.map(|(udid, _)| udid).collect();
    let tiers: [BTreeSet<&str>; 4] = [
        udids(&mut now().filter(|(udid, _)| is_device(text, udid, None))),
        udids(&mut now().filter(|(_, name)| is_called(*name))),
        udids(&mut now().filter(|(udid, name)| is_device(text, udid, *name))),
        udids(&mut called.filter(|(udid, name)| is_device(text, udid, *name))),
    ];
    tiers.into_iter().find(|tier| !tier.is_empty()).unwrap_or_default()
}

/// What of a snapshot it can be named by.
struct Candidate {
    id: String,
    /// When it was taken, as far as that can be believed.
    time: i64,
    udid: String,
    name: Option<String>,
}

impl Candidate {
    fn of(snapshot: &Snapshot, now: i64) -> Candidate {
        let record = &snapshot.record;
        Candidate {
            id: snapshot.id.to_string(),
            time: record.credible_time(now),
            udid: record.series.clone(),
            name: record.device.get("name").cloned(),
        }
    }

    fn is_of(&self, device: &str) -> bool {
        is_device(device, &self.udid, self.name.as_deref())
    }
}

fn resolve(spec: &str, candidates: &[Candidate], zone: &TimeZone, listed: &str) -> Result<usize> {
    let spec = spec.trim();
    if spec.is_empty() {
        return Err(Failure::new(Exit::Usage, "the name of the snapshot is empty").hint("say `latest` for the newest"));
    }
    if candidates.is_empty() {
        return Err(Failure::failed("there are no snapshots yet").hint(
            "`heirloom backup` or `heirloom import PATH` makes one; `heirloom undelete` lists those that can come back",
        ));
    }
    let parsed = parse(spec, zone, &|who| candidates.iter().any(|candidate| candidate.is_of(who)));
    let in_time: Vec<&Candidate> =
        candidates.iter().filter(|candidate| parsed.until.is_none_or(|until| candidate.time <= until)).collect();
    let fitting = match fitting(spec, &parsed, &in_time, listed) {
        // What fits at no time is told from what fits later.
        Err(_) if fits_any(&parsed, candidates) => Vec::new(),
        fitting => fitting?,
    };
    // Both are in the same order.
    let mut fitting = fitting.into_iter().peekable();
    let in_time: Vec<usize> = (0..candidates.len())
        .filter(|&at| fitting.next_if(|fitting| std::ptr::eq(*fitting, &candidates[at])).is_some())
        .collect();
    let Some(&newest) = in_time.last() else {
        return Err(Failure::failed(format!("{spec}: no snapshot is as old as that")).hint(listed));
    };
    let wanted = in_time.len().checked_sub(1 + parsed.back).map(|at| in_time[at]);
    wanted.ok_or_else(|| {
        let before = match in_time.len() - 1 {
            0 => "is no snapshot".to_owned(),
            1 => "is only 1 snapshot".to_owned(),
            number => format!("are only {number} snapshots"),
        };
        Failure::failed(format!("{spec}: there {before} before {}", &candidates[newest].id[..8])).hint(listed)
    })
}

/// The snapshots that the name fits among `candidates`, oldest first, of one device unless it names none.
fn fitting<'c>(spec: &str, parsed: &Parsed, candidates: &[&'c Candidate], listed: &str) -> Result<Vec<&'c Candidate>> {
    let who = parsed.who;
    let those =
        |fits: &dyn Fn(&Candidate) -> bool| candidates.iter().copied().filter(|one| fits(one)).collect::<Vec<_>>();
    let devices = devices_called(who, candidates.iter().map(|one| (&*one.udid, one.name.as_deref())));
    if devices.is_empty() && (who.is_empty() || who == "latest") {
        return Ok(candidates.to_vec());
    }
    let by_id =
        if is_id_prefix(who) { those(&|one| one.id.starts_with(&who.to_ascii_lowercase())) } else { Vec::new() };
    let of_devices = those(&|one| devices.contains(&*one.udid));
    match (by_id.len(), devices.len()) {
        (0, 0) => Err(Failure::failed(format!("no snapshot is called {spec}")).hint(how_to_name(spec, listed))),
        (1, 0) => Ok(by_id),
        (0, 1) => Ok(of_devices),
        (0, _) => match successor(&of_devices) {
            Some(udid) => Ok(those(&|one| one.udid == udid)),
            None => Err(ambiguous(spec, of_devices.into_iter())),
        },
        _ => Err(ambiguous(spec, by_id.into_iter().chain(of_devices))),
    }
}

/// Says what to do about a name that fits nothing.
fn how_to_name(spec: &str, listed: &str) -> String {
    if spec.contains('/') || Path::new(spec).is_dir() {
        return format!("the name of a snapshot is meant, such as latest, not a folder; {listed}");
    }
    if spec.contains('@') {
        return format!("dates are @2026, @2026-05, @2026-05-03 or \"@2026-05-03 14:30\"; {listed}");
    }
    match spec.rsplit_once('~') {
        Some((name, _)) => format!("after ~ stands a number: {name}~2 is the second before {name}; {listed}"),
        None => listed.to_owned(),
    }
}

/// Whether the name fits anything, whenever that was.
fn fits_any(parsed: &Parsed, candidates: &[Candidate]) -> bool {
    let is_id =
        |candidate: &Candidate| is_id_prefix(parsed.who) && candidate.id.starts_with(&parsed.who.to_ascii_lowercase());
    let is_all = parsed.who.is_empty() || parsed.who == "latest";
    parsed.until.is_some()
        && (is_all || candidates.iter().any(|candidate| candidate.is_of(parsed.who) || is_id(candidate)))
}

/// The device that came after all others of its name: those ended about when it began, and that is long ago.
fn successor<'c>(snapshots: &[&'c Candidate]) -> Option<&'c str> {
    let last = snapshots.last()?;
    let begin = snapshots.iter().find(|one| one.udid == last.udid)?.time;
    let is_replaced =
        |other: &&Candidate| other.time <= begin + SIDE_BY_SIDE_MAX && other.time <= last.time - REPLACED_AFTER;
    snapshots.iter().filter(|one| one.udid != last.udid).all(is_replaced).then_some(&*last.udid)
}

fn ambiguous<'c>(spec: &str, candidates: impl Iterator<Item = &'c Candidate>) -> Failure {
    let mut lines: Vec<String> = candidates
        .map(|Candidate { id, time, udid, name }| {
            format!("  {}  {}  {} ({udid})", &id[..id.len().min(12)], local_time(*time), name.as_deref().unwrap_or("?"))
        })
        .collect();
    lines.dedup();
    let more = lines.len().saturating_sub(MOST_CANDIDATES_SHOWN);
    lines.truncate(MOST_CANDIDATES_SHOWN);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    Failure::failed(format!("{spec} could be any of these:\n{}", lines.join("\n")))
        .hint("type more of the id, or the UDID instead of the name")
}

fn is_id_prefix(text: &str) -> bool {
    (SHORTEST_ID..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[derive(Debug, PartialEq, Eq)]
struct Parsed<'a> {
    who: &'a str,
    /// The last second that counts.
    until: Option<i64>,
    back: usize,
}

/// Takes `~N` and then `@DATE` off the end, unless what is there is a device: it may be called anything, even `a@2026`.
fn parse<'a>(spec: &'a str, zone: &TimeZone, is_device: &dyn Fn(&str) -> bool) -> Parsed<'a> {
    let mut parsed = Parsed { who: spec, until: None, back: 0 };
    if !is_device(parsed.who)
        && let Some((who, back)) = parsed.who.rsplit_once('~')
        && let Ok(back) = back.parse()
    {
        (parsed.who, parsed.back) = (who, back);
    }
    if !is_device(parsed.who)
        && let Some((who, date)) = parsed.who.rsplit_once('@')
        && let Some(until) = end_of(date, zone)
    {
        (parsed.who, parsed.until) = (who, Some(until));
    }
    parsed
}

/// The last second of a year, month, day, minute or second, in seconds since 1970.
fn end_of(date: &str, zone: &TimeZone) -> Option<i64> {
    if let Ok(instant) = date.parse::<Timestamp>() {
        return Some(instant.as_second());
    }
    let date = plain_marks(date).trim().replace('T', " ");
    let (year, month, day, hour) =
        (Span::new().years(1), Span::new().months(1), Span::new().days(1), Span::new().hours(1));
    let (minute, second) = (Span::new().minutes(1), Span::new().seconds(1));
    // What is missing of a full date and time, by how much there is, and how long the period is that was named.
    let (rest, period) = match date.len() {
        4 => ("-01-01 00:00:00", year),
        7 => ("-01 00:00:00", month),
        10 => (" 00:00:00", day),
        13 => (":00:00", hour),
        16 => (":00", minute),
        19 => ("", second),
        _ => return None,
    };
    let start = DateTime::strptime("%Y-%m-%d %H:%M:%S", date + rest).ok()?;
    let end = start.checked_add(period).ok()?.to_zoned_datetime(zone.clone()).ok()?;
    Some(end.timestamp().as_second() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARIA: &str = "00008030-001A2B3C4D5E6F70";

    fn candidate(id: &str, time: &str, udid: &str, name: &str) -> Candidate {
        let time = time.parse::<Timestamp>().unwrap().as_second();
        Candidate { id: format!("{id:0<64}"), time, udid: udid.into(), name: Some(name.into()) }
    }

    fn history() -> Vec<Candidate> {
        vec![
            candidate("aaaa1111", "2025-12-31T23:59:59Z", MARIA, "Maria’s iPhone"),
            candidate("aaaa2222", "2026-05-03T10:00:30Z", "cafe", "iPad@2026"),
            candidate("bbbb3333", "2026-05-03T14:30:59Z", MARIA, "Maria’s iPhone"),
            candidate("cafe4444", "2026-06-01T00:00:00Z", MARIA, "Maria’s iPhone"),
        ]
    }

    fn found(spec: &str) -> Result<usize, String> {
        resolve(spec, &history(), &TimeZone::UTC, "look").map_err(|failure| failure.message)
    }

    #[test]
    fn snapshots_have_names() {
        let cases = [
            ("latest", 3),
            ("latest~2", 1),
            ("bbbb", 2),
            ("BBBB3333", 2),
            ("aaaa1", 0),
            ("Maria's iPhone", 3),
            ("maria’s iphone~2", 0),
            (MARIA, 3),
            ("iPad@2026", 1),
            ("ipad@2026~0", 1),
            ("@2026", 3),
            ("@2025", 0),
            ("@2026-05", 2),
            ("@2026-05-03", 2),
            ("@2026-05-03 14:30", 2),
            ("@2026-05-03T14:30:58", 1),
            ("@2026-05-03T12", 1),
            ("@2026-05-03T16:00:30+02:00", 1),
            ("Maria's iPhone@2026-05-03T12:00", 0),
            ("latest@2026-05~1", 1),
            ("@2026\u{2011}05\u{2013}03\u{a0}14:30", 2),
        ];
        for (spec, at) in cases {
            assert_eq!(found(spec), Ok(at), "{spec}");
        }
    }

    #[test]
    fn what_fits_none_or_several_is_refused_and_says_why() {
        assert!(found("aaaa").unwrap_err().contains("aaaa11110000"));
        assert!(found("cafe").unwrap_err().contains("could be any of these"), "an id and a UDID");
        assert!(found("aaa").unwrap_err().contains("no snapshot is called aaa"));
        assert!(found("nobody's phone").unwrap_err().contains("nobody's phone"));
        assert!(found("@2024").unwrap_err().contains("as old as that"));
        assert!(found("latest~4").unwrap_err().contains("only 3"));
        assert!(found("@2026-13").is_err() && found("@").is_err() && found("").is_err());
        assert!(resolve("latest", &[], &TimeZone::UTC, "look").unwrap_err().message.contains("no snapshots yet"));
    }

    #[test]
    fn two_devices_of_one_name_are_told_apart_by_udid() {
        let both = [
            candidate("aaaa", "2026-01-01T00:00:00Z", "udid1", "iPhone"),
            candidate("bbbb", "2026-01-02T00:00:00Z", "udid2", "iPhone"),
        ];
        assert!(resolve("iphone", &both, &TimeZone::UTC, "look").unwrap_err().message.contains("udid2"));
        assert_eq!(resolve("UDID1", &both, &TimeZone::UTC, "look").unwrap(), 0);
    }

    /// name-as-typed
    #[test]
    fn names_are_found_as_people_type_them() {
        for (name, typed) in [
            ("iPhone\u{a0}de\u{a0}Zo\u{eb}", "iphone de zoe\u{308}"),
            ("iPhone de Zoe\u{308}", "iPhone de Zo\u{eb}"),
            ("Maria\u{2019}s iPhone", "maria`s  iphone "),
            ("Maria's iPhone", "Maria\u{2bc}s iPhone"),
            ("L\u{2019}iPhone d\u{202f}\u{c9}loi", "l'iphone d \u{e9}loi"),
            ("Opa\u{2013}Handy", "opa-handy"),
            ("\u{200e}iPad", "ipad"),
            ("ＩＰＨＯＮＥ", "iphone"),
        ] {
            assert!(is_device(typed, "udid", Some(name)), "{typed}");
        }
        for (name, typed) in [("Zoe", "Zo\u{eb}"), ("iPhone 1", "iPhone1"), ("", "x"), ("", ""), (" ", "")] {
            assert!(!is_device(typed, "udid", Some(name)), "{typed}");
        }
        assert!(is_device("00008030001a2b3c4d5e6f70", MARIA, None), "udid-without-dash");
    }

    fn find(spec: &str, candidates: &[Candidate]) -> Result<String, String> {
        let found = resolve(spec, candidates, &TimeZone::UTC, "look").map_err(|failure| failure.message)?;
        Ok(candidates[found].id[..4].to_owned())
    }

    /// new-phone-old-name
    #[test]
    fn a_new_phone_takes_the_name_of_the_old_one() {
        let phones = [
            candidate("aaaa", "2019-05-01T00:00:00Z", "old", "Maria's iPhone"),
            candidate("bbbb", "2024-05-01T00:00:00Z", "old", "Maria's iPhone"),
            candidate("cccc", "2024-05-02T00:00:00Z", "new", "Maria's iPhone"),
            candidate("dddd", "2024-09-01T00:00:00Z", "new", "Maria's iPhone"),
        ];
        assert_eq!(find("Maria's iPhone", &phones).unwrap(), "dddd");
        assert_eq!(find("Maria's iPhone~1", &phones).unwrap(), "cccc");
        assert_eq!(find("Maria's iPhone@2019", &phones).unwrap(), "aaaa");
        assert_eq!(find("Maria's iPhone@2024-05-01", &phones).unwrap(), "bbbb");
        assert_eq!(find("old", &phones).unwrap(), "bbbb");
        assert!(find("Maria's iPhone@2018", &phones).unwrap_err().contains("as old as that"));
        // Nobody knows yet whether the old one is still in use.
        assert!(find("Maria's iPhone", &phones[..3]).unwrap_err().contains("could be any"));
        // Two that are in use side by side are never taken for one.
        let beside = [
            candidate("aaaa", "2024-01-01T00:00:00Z", "one", "iPhone"),
            candidate("bbbb", "2024-01-02T00:00:00Z", "two", "iPhone"),
            candidate("cccc", "2024-03-01T00:00:00Z", "one", "iPhone"),
            candidate("dddd", "2024-09-01T00:00:00Z", "two", "iPhone"),
        ];
        assert!(find("iPhone", &beside).unwrap_err().contains("could be any"));
    }

    /// renamed-phone
    #[test]
    fn a_renamed_phone_keeps_its_history() {
        let phones = [
            candidate("aaaa", "2023-05-01T00:00:00Z", "one", "iPhone"),
            candidate("bbbb", "2024-05-01T00:00:00Z", "one", "Maria's iPhone"),
            candidate("cccc", "2024-06-01T00:00:00Z", "two", "iPhone"),
        ];
        assert_eq!(find("Maria's iPhone~1", &phones).unwrap(), "aaaa");
        assert_eq!(find("Maria's iPhone@2024", &phones).unwrap(), "bbbb");
        assert_eq!(find("iPhone@2023", &phones).unwrap(), "aaaa", "as it was called then");
        assert_eq!(find("iPhone", &phones).unwrap(), "cccc", "as it is called now");
        assert_eq!(find("iPhone", &phones[..2]).unwrap(), "bbbb", "nothing else was ever called so");
    }

    #[test]
    fn of_names_that_differ_in_case_alone_the_typed_one_is_meant() {
        let phones = [
            candidate("aaaa", "2024-05-01T00:00:00Z", "one", "iPhone"),
            candidate("bbbb", "2024-05-02T00:00:00Z", "two", "IPHONE"),
        ];
        assert_eq!(find("iPhone", &phones).unwrap(), "aaaa");
        assert_eq!(find("IPHONE", &phones).unwrap(), "bbbb");
        assert!(find("iphone", &phones).is_err());
    }
}
