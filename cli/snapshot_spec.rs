//! Names of snapshots as people type them: `1f3a9c2e`, `latest~2`, `Maria's iPhone`, `@2026-05`, `Maria's iPhone@2026-05-03`.
//!
//! A name is what is left of `~N` and `@DATE`: an id or its beginning, `latest` or nothing for all devices, or a device's name or UDID.
//! Of the snapshots that it fits, taken by the end of DATE, the newest is meant, or the Nth before it.

use heirloom_store::Snapshot;
use jiff::{Span, Timestamp, civil::DateTime, tz::TimeZone};

use crate::{
    failure::{Exit, Failure, Result},
    report::local_time,
};

const SHORTEST_ID: usize = 4;
const MOST_CANDIDATES_SHOWN: usize = 10;

/// The one snapshot that `spec` names among `snapshots`, which are in the order of their times.
pub fn find<'s>(spec: &str, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot> {
    find_among(spec, snapshots, "`heirloom snapshots` lists them all")
}

/// The same among those that were forgotten.
pub fn find_forgotten<'s>(spec: &str, snapshots: &'s [Snapshot]) -> Result<&'s Snapshot> {
    find_among(spec, snapshots, "`heirloom snapshots --trash` lists what can be undeleted")
}

/// The one that `spec` names; `listed` is the hint for who has to look at the list.
fn find_among<'s>(spec: &str, snapshots: &'s [Snapshot], listed: &str) -> Result<&'s Snapshot> {
    let candidates: Vec<Candidate> = snapshots.iter().map(Candidate::of).collect();
    resolve(spec, &candidates, &TimeZone::system(), listed).map(|at| &snapshots[at])
}

/// Whether a device's name or UDID is meant by `text`: the case and kind of apostrophe do not matter.
pub fn is_device(text: &str, udid: &str, name: Option<&str>) -> bool {
    text.eq_ignore_ascii_case(udid) || name.is_some_and(|name| fold(name) == fold(text))
}

/// What of a snapshot it can be named by.
struct Candidate {
    id: String,
    time: i64,
    udid: String,
    name: Option<String>,
}

impl Candidate {
    fn of(snapshot: &Snapshot) -> Candidate {
        let record = &snapshot.record;
        Candidate {
            id: snapshot.id.to_string(),
            time: record.time,
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
        return Err(Failure::failed("there are no snapshots yet").hint("`heirloom import PATH` makes some"));
    }
    let parsed = parse(spec, zone, &|who| candidates.iter().any(|candidate| candidate.is_of(who)));
    let fitting = fitting(spec, &parsed, candidates, listed)?;
    let in_time: Vec<usize> =
        fitting.into_iter().filter(|&at| parsed.until.is_none_or(|until| candidates[at].time <= until)).collect();
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

/// The snapshots that the name fits, oldest first, of one device unless it names none.
fn fitting(spec: &str, parsed: &Parsed, candidates: &[Candidate], listed: &str) -> Result<Vec<usize>> {
    let those = |fits: &dyn Fn(&Candidate) -> bool| {
        (0..candidates.len()).filter(|&at| fits(&candidates[at])).collect::<Vec<_>>()
    };
    let who = parsed.who;
    let of_device = those(&|candidate| candidate.is_of(who));
    if of_device.is_empty() && (who.is_empty() || who == "latest") {
        return Ok(those(&|_| true));
    }
    let by_id = if is_id_prefix(who) {
        those(&|candidate| candidate.id.starts_with(&who.to_ascii_lowercase()))
    } else {
        Vec::new()
    };
    let one_device = of_device.windows(2).all(|pair| candidates[pair[0]].udid == candidates[pair[1]].udid);
    match (by_id.len(), of_device.is_empty()) {
        (0, true) => Err(Failure::failed(format!("no snapshot is called {spec}")).hint(listed)),
        (0, false) if one_device => Ok(of_device),
        (1, true) => Ok(by_id),
        _ => Err(ambiguous(spec, by_id.into_iter().chain(of_device).map(|at| &candidates[at]))),
    }
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

/// Lower case, with the typewriter's apostrophe for the one that phones write.
fn fold(name: &str) -> String {
    name.trim().replace('\u{2019}', "'").to_lowercase()
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
    let date = date.trim().replace('T', " ");
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
}
