//! Rules that keep snapshots: functions of times alone. The rules are restic's, so that they do what its users
//! know.
//!
//! Each series is looked at by itself, from its newest snapshot back. A rule by number keeps the newest of each of the
//! last N hours, days, weeks (ISO 8601), months or years that have one; while it has kept fewer than N, the oldest of
//! all as well, so that a history begins where it began. A duration counts back from the newest snapshot that is not of
//! the future, not from now: a phone that is no longer backed up loses nothing by waiting. What one rule keeps is kept.
//! Pinned snapshots are kept by no rule, and take no place of one.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    str::FromStr,
};

use jiff::{Span, Timestamp, ZonedDateTime, tz::TimeZone};

/// How many a rule keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepCount {
    AtMost(u32),
    Unlimited,
}

impl Default for KeepCount {
    fn default() -> KeepCount {
        KeepCount::AtMost(0)
    }
}

impl FromStr for KeepCount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<KeepCount, Self::Err> {
        match text {
            "unlimited" => Ok(KeepCount::Unlimited),
            _ => text.parse().map(KeepCount::AtMost).map_err(|_| "a number is needed, or `unlimited`"),
        }
    }
}

/// A stretch of years, months, days and hours, such as `90d` or `1y6m`.
#[derive(Debug, Clone, Default)]
pub struct Within {
    text: String,
    span: Span,
}

impl FromStr for Within {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Within, Self::Err> {
        const FORM: &str = "a duration is needed, such as 90d, 6m, 1y6m or 36h";
        let (mut span, mut units, mut rest) = (Span::new(), String::new(), text);
        while !rest.is_empty() {
            let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or(FORM)?;
            let number: i64 = rest[..unit_at].parse().map_err(|_| FORM)?;
            let unit = rest[unit_at..].chars().next().ok_or(FORM)?;
            let with = match unit {
                'y' => span.try_years(number),
                'm' => span.try_months(number),
                'd' => span.try_days(number),
                'h' => span.try_hours(number),
                _ => return Err(FORM),
            };
            span = with.map_err(|_| "that is too long")?;
            if units.contains(unit) {
                return Err("it names a unit twice");
            }
            units.push(unit);
            rest = &rest[unit_at + unit.len_utf8()..];
        }
        if units.is_empty() { Err(FORM) } else { Ok(Within { text: text.to_owned(), span }) }
    }
}

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is kept of each series.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    pub last: KeepCount,
    pub hourly: KeepCount,
    pub daily: KeepCount,
    pub weekly: KeepCount,
    pub monthly: KeepCount,
    pub yearly: KeepCount,
    pub within: Within,
}

impl Rules {
    /// Whether they keep nothing, whatever there is. Otherwise they keep at least the newest of each series.
    pub fn keep_nothing(&self) -> bool {
        let counts = [self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly];
        counts.iter().all(|&count| count == KeepCount::AtMost(0)) && self.within.span.is_zero()
    }

    fn by_number(&self) -> [ByNumber; 6] {
        let rule = |count, name, period| ByNumber { left: count, name, period, seen: HashSet::new() };
        [
            rule(self.last, "last", None),
            rule(self.hourly, "hourly", Some("%Y-%m-%d %H:00")),
            rule(self.daily, "daily", Some("%Y-%m-%d")),
            rule(self.weekly, "weekly", Some("%G-W%V")),
            rule(self.monthly, "monthly", Some("%Y-%m")),
            rule(self.yearly, "yearly", Some("%Y")),
        ]
    }
}

/// What rules look at of a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Taken<'a> {
    /// When it was taken, as far as that can be believed; seconds since 1970.
    pub time: i64,
    /// When it says that it was taken, where that cannot be.
    pub doubtful: Option<i64>,
    pub series: &'a str,
    pub is_pinned: bool,
}

/// Why each snapshot is kept; those that go have no reason. They are given oldest first; `now` is in seconds since
/// 1970.
///
/// A snapshot with a doubtful date is looked at by both of its dates, and takes no place of another: the rules keep
/// with it all that they keep without it.
pub fn reasons_to_keep(snapshots: &[Taken], rules: &Rules, now: i64, zone: &TimeZone) -> Vec<Vec<String>> {
    let credible = |taken: &Taken| Some(taken.time);
    let mut reasons = reasons_by(snapshots, Order::AsGiven, credible, rules, now, zone);
    if snapshots.iter().any(|taken| taken.doubtful.is_some()) {
        let certain = |taken: &Taken| taken.doubtful.is_none().then_some(taken.time);
        let claimed = |taken: &Taken| Some(taken.doubtful.unwrap_or(taken.time));
        let more = [
            reasons_by(snapshots, Order::AsGiven, certain, rules, now, zone),
            reasons_by(snapshots, Order::ByDate, credible, rules, now, zone),
            reasons_by(snapshots, Order::AsGiven, claimed, rules, now, zone),
        ];
        for (at, reason) in more.into_iter().flat_map(|all| all.into_iter().enumerate()) {
            let new: Vec<String> = reason.into_iter().filter(|reason| !reasons[at].contains(reason)).collect();
            reasons[at].extend(new);
        }
    }
    reasons
}

/// Which of two snapshots is newer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The one that was given later.
    AsGiven,
    /// The one whose date is later.
    ByDate,
}

/// The same by the dates that `time` gives, of the snapshots that have one.
fn reasons_by(
    snapshots: &[Taken],
    order: Order,
    time: impl Fn(&Taken) -> Option<i64>,
    rules: &Rules,
    now: i64,
    zone: &TimeZone,
) -> Vec<Vec<String>> {
    let times: Vec<Option<i64>> = snapshots.iter().map(time).collect();
    let mut series: BTreeMap<&str, Vec<(usize, i64)>> = BTreeMap::new();
    for (at, snapshot) in snapshots.iter().enumerate().rev() {
        series.entry(snapshot.series).or_default().extend(times[at].map(|time| (at, time)));
    }
    let mut reasons = vec![Vec::new(); snapshots.len()];
    for mut newest_first in series.into_values() {
        if order == Order::ByDate {
            newest_first.sort_by_key(|&(_, time)| std::cmp::Reverse(time));
        }
        let newest_time = newest_first.iter().map(|&(_, time)| time).filter(|&time| time <= now).max();
        let since = since(&rules.within, newest_time.unwrap_or(now), zone);
        let (pinned, others): (Vec<_>, Vec<_>) = newest_first.into_iter().partition(|&(at, _)| snapshots[at].is_pinned);
        pinned.into_iter().for_each(|(at, _)| reasons[at].push("pinned".to_owned()));
        let mut by_number = rules.by_number();
        for &(at, time) in &others {
            let time = in_zone(time, zone);
            let is_oldest = others.last().is_some_and(|&(oldest, _)| oldest == at);
            reasons[at].extend(by_number.iter_mut().filter_map(|rule| rule.reason(&time, is_oldest)));
            if since.as_ref().is_some_and(|since| time > *since) {
                reasons[at].push(format!("within {}", rules.within));
            }
        }
    }
    reasons
}

/// A rule that keeps so many, and what it has kept so far.
struct ByNumber {
    left: KeepCount,
    name: &'static str,
    /// By what name its period goes; each snapshot is one of its own if there is none.
    period: Option<&'static str>,
    seen: HashSet<String>,
}

impl ByNumber {
    fn reason(&mut self, time: &ZonedDateTime, is_oldest: bool) -> Option<String> {
        if self.left == KeepCount::AtMost(0) {
            return None;
        }
        let Some(period) = self.period.map(|form| time.strftime(form).to_string()) else {
            self.count();
            return Some(self.name.to_owned());
        };
        let reason = format!("{} {period}", self.name);
        let is_new = self.seen.insert(period);
        if is_new || is_oldest {
            self.count();
            return Some(if is_new { reason } else { format!("oldest, {reason}") });
        }
        None
    }

    fn count(&mut self) {
        if let KeepCount::AtMost(left) = &mut self.left {
            *left -= 1;
        }
    }
}

/// What was taken later than this is within; `None` if there is no such rule.
fn since(within: &Within, newest_time: i64, zone: &TimeZone) -> Option<ZonedDateTime> {
    let newest = in_zone(newest_time, zone);
    let before_all = || Timestamp::MIN.to_zoned_datetime(TimeZone::UTC);
    (!within.span.is_zero()).then(|| newest.checked_sub(within.span).unwrap_or_else(|_| before_all()))
}

/// A time that is not in the calendar counts as the nearest that is.
fn in_zone(unix_seconds: i64, zone: &TimeZone) -> ZonedDateTime {
    let nearest = unix_seconds.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(nearest).unwrap_or_default().to_zoned_datetime(zone.clone())
}

#[cfg(test)]
mod tests {
    use jiff::{ToSpan, civil::Date};
    use proptest::prelude::*;

    use super::*;

    const HOUR: i64 = 3600;
    /// 2026-05-03 10:00:00 in UTC, a Sunday.
    const NOW: i64 = 1_777_802_400;

    fn rules(text: &str) -> Rules {
        let mut rules = Rules::default();
        for (name, value) in text.split_whitespace().map(|rule| rule.split_once('=').unwrap()) {
            let count = || value.parse().unwrap();
            match name {
                "last" => rules.last = count(),
                "hourly" => rules.hourly = count(),
                "daily" => rules.daily = count(),
                "weekly" => rules.weekly = count(),
                "monthly" => rules.monthly = count(),
                "yearly" => rules.yearly = count(),
                "within" => rules.within = value.parse().unwrap(),
                _ => panic!("{name}"),
            }
        }
        rules
    }

    fn time(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    /// The times of one phone, each with the reasons to keep it, in one line; in UTC.
    fn kept(times: &[&str], text: &str) -> Vec<String> {
        let taken: Vec<Taken> = times.iter().map(|text| taken(time(text))).collect();
        let reasons = reasons_to_keep(&taken, &rules(text), NOW, &TimeZone::UTC);
        reasons.into_iter().map(|reasons| reasons.join(" + ")).collect()
    }

    fn taken(time: i64) -> Taken<'static> {
        Taken { time, doubtful: None, series: "phone", is_pinned: false }
    }

    #[test]
    fn each_rule_keeps_the_newest_of_each_of_its_last_periods() {
        let times = [
            "2025-12-29T08:00:00Z",
            "2026-01-04T08:00:00Z",
            "2026-04-30T20:00:00Z",
            "2026-05-02T09:10:00Z",
            "2026-05-02T09:50:00Z",
            "2026-05-03T09:00:00Z",
        ];
        for (text, expected) in [
            ("last=2", ["", "", "", "", "last", "last"]),
            ("hourly=2", ["", "", "", "", "hourly 2026-05-02 09:00", "hourly 2026-05-03 09:00"]),
            ("daily=3", ["", "", "daily 2026-04-30", "", "daily 2026-05-02", "daily 2026-05-03"]),
            // The 29th of December 2025 is of the first week of 2026, and the oldest.
            ("weekly=9", ["oldest, weekly 2026-W01", "weekly 2026-W01", "", "", "", "weekly 2026-W18"]),
            ("weekly=2", ["", "weekly 2026-W01", "", "", "", "weekly 2026-W18"]),
            ("monthly=2", ["", "", "monthly 2026-04", "", "", "monthly 2026-05"]),
            ("yearly=2", ["yearly 2025", "", "", "", "", "yearly 2026"]),
            ("yearly=unlimited", ["yearly 2025", "", "", "", "", "yearly 2026"]),
            ("within=1d", ["", "", "", "within 1d", "within 1d", "within 1d"]),
            ("within=3d", ["", "", "within 3d", "within 3d", "within 3d", "within 3d"]),
            ("last=1 daily=1", ["", "", "", "", "", "last + daily 2026-05-03"]),
        ] {
            assert_eq!(kept(&times, text), expected, "{text}");
        }
    }

    #[test]
    fn days_are_those_of_the_place() {
        let taken = ["2026-05-02T21:30:00Z", "2026-05-02T22:30:00Z"].map(|text| taken(time(text)));
        let daily = |zone: &str| {
            let zone = TimeZone::posix(zone).unwrap();
            reasons_to_keep(&taken, &rules("daily=2"), NOW, &zone).iter().map(|reasons| reasons.join("")).collect()
        };
        let [here, there]: [Vec<String>; 2] = ["UTC0", "CET-2"].map(daily);
        assert_eq!(here, ["oldest, daily 2026-05-02", "daily 2026-05-02"]);
        assert_eq!(there, ["daily 2026-05-02", "daily 2026-05-03"]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_one() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // 02:30 twice, in the night in which the clocks go back, and 01:30 and 03:30 about it.
        let first = time("2025-10-25T23:30:00Z");
        let taken: Vec<Taken> = (0..4).map(|hour| taken(first + hour * HOUR)).collect();
        let reasons = reasons_to_keep(&taken, &rules("hourly=9"), NOW, &zone);
        let reasons: Vec<String> = reasons.into_iter().map(|reasons| reasons.join("")).collect();
        let hour = |hour| format!("hourly 2025-10-26 0{hour}:00");
        assert_eq!(reasons, [hour(1), String::new(), hour(2), hour(3)]);
    }

    #[test]
    fn a_doubtful_date_makes_the_rules_forget_no_more() {
        let certain: Vec<Taken> = (0..9).rev().map(|days| taken(NOW - days * 24 * HOUR)).collect();
        for (text, kept) in
            [("last=3", 3), ("daily=4", 4), ("yearly=5", 2), ("within=2d", 2), ("monthly=1 within=49h", 3)]
        {
            let alone = reasons_to_keep(&certain, &rules(text), NOW, &TimeZone::UTC);
            assert_eq!(alone.iter().filter(|reasons| !reasons.is_empty()).count(), kept, "{text}");
            for claimed in [NOW + 50_000 * HOUR, NOW - HOUR, 0, i64::MIN, i64::MAX] {
                for place in 0..=certain.len() {
                    let mut all = certain.clone();
                    all.insert(place, Taken { doubtful: Some(claimed), ..taken(NOW - HOUR) });
                    let mut reasons = reasons_to_keep(&all, &rules(text), NOW, &TimeZone::UTC);
                    reasons.remove(place);
                    let is_lost =
                        |(with, without): (&Vec<String>, &Vec<String>)| with.is_empty() && !without.is_empty();
                    assert!(!reasons.iter().zip(&alone).any(is_lost), "{text} {claimed} {place}: {reasons:?}");
                }
            }
        }
    }

    #[test]
    fn a_doubtful_snapshot_is_judged_by_both_dates() {
        let doubtful = |days: i64, claimed: i64| Taken { doubtful: Some(claimed), ..taken(NOW - days * HOUR) };
        // The computer's clock stood still; the phone's was right.
        let all: Vec<Taken> = (0..4).map(|day| doubtful(1, NOW + day * 24 * HOUR)).collect();
        let reasons = reasons_to_keep(&all, &rules("daily=9"), NOW, &TimeZone::UTC);
        assert!(reasons.iter().all(|reasons| !reasons.is_empty()), "{reasons:?}");
    }

    #[test]
    fn pinned_snapshots_are_kept_and_take_no_place() {
        let pinned = |time| Taken { is_pinned: true, ..taken(time) };
        let all = [pinned(NOW - 9 * HOUR), taken(NOW - 5 * HOUR), taken(NOW - 3 * HOUR), pinned(NOW - HOUR)];
        let reasons = |text| reasons_to_keep(&all, &rules(text), NOW, &TimeZone::UTC);
        assert_eq!(reasons("last=1"), [vec!["pinned"], vec![], vec!["last"], vec!["pinned"]]);
        // But the newest is the newest.
        assert_eq!(reasons("within=3h"), [vec!["pinned"], vec![], vec!["within 3h"], vec!["pinned"]]);
        assert_eq!(reasons("within=2h"), [vec!["pinned"], vec![], vec![], vec!["pinned"]]);
    }

    #[test]
    fn a_duration_counts_back_from_the_newest_that_is_not_of_the_future() {
        let old = ["2014-01-01T00:00:00Z", "2015-06-30T00:00:00Z", "2015-07-01T00:00:00Z"];
        assert_eq!(kept(&old, "within=1y6m"), ["", "within 1y6m", "within 1y6m"], "not from now");
        assert_eq!(kept(&old, "within=18000y"), ["within 18000y"; 3], "before the calendar begins");
        let with_future = ["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", "2038-01-01T00:00:00Z"];
        assert_eq!(kept(&with_future, "within=9d"), ["", "within 9d", "within 9d"]);
        assert_eq!(kept(&["2030-01-01T00:00:00Z", "2038-01-01T00:00:00Z"], "within=1h"), ["within 1h"; 2]);
    }

    #[test]
    fn times_outside_of_the_calendar_do_no_harm() {
        let all = [i64::MIN, 0, i64::MAX].map(taken);
        let everything = rules("last=1 hourly=9 daily=9 weekly=9 monthly=9 yearly=9 within=9y");
        assert!(reasons_to_keep(&all, &everything, NOW, &TimeZone::UTC).iter().all(|reasons| !reasons.is_empty()));
        reasons_to_keep(&all, &everything, i64::MIN, &TimeZone::fixed(jiff::tz::offset(-14)));
        reasons_to_keep(&all, &everything, i64::MAX, &TimeZone::fixed(jiff::tz::offset(14)));
    }

    #[test]
    fn numbers_and_durations_are_read_or_refused() {
        for (text, expected) in [("0", KeepCount::AtMost(0)), ("7", KeepCount::AtMost(7))] {
            assert_eq!(text.parse::<KeepCount>(), Ok(expected));
        }
        assert_eq!("unlimited".parse::<KeepCount>(), Ok(KeepCount::Unlimited));
        for text in ["", "-1", "all", "1.5", "4294967296"] {
            assert!(text.parse::<KeepCount>().is_err(), "{text}");
        }
        for (text, span) in [
            ("90d", 90.days()),
            ("1y6m", 1.year().months(6)),
            ("36h", 36.hours()),
            ("2h1y", 1.year().hours(2)),
            ("0d", 0.days()),
        ] {
            assert_eq!(text.parse::<Within>().unwrap().span.fieldwise(), span.fieldwise(), "{text}");
        }
        for text in ["", "90", "d", "3w", "-3d", "3 d", "1d2d", "3dd", "1µ", "99999999999999999999d", "999999999d"] {
            assert!(text.parse::<Within>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_keeps_nothing_is_known_as_such() {
        for text in ["", "last=0", "daily=0 within=0d"] {
            assert!(rules(text).keep_nothing(), "{text}");
        }
        for text in ["last=1", "yearly=unlimited last=0", "within=1h"] {
            assert!(!rules(text).keep_nothing(), "{text}");
        }
    }

    // ---- a second opinion ------------------------------------------------------------------------------------------------

    /// The period of a rule that a local date and hour lie in, as a number that grows with time.
    fn period_number(rule: usize, date: Date, hour: i8) -> i64 {
        let days = date.since(Date::constant(1970, 1, 5)).unwrap().get_days() as i64;
        match rule {
            1 => days * 24 + i64::from(hour),
            2 => days,
            // The 5th of January 1970 was a Monday.
            3 => days.div_euclid(7),
            4 => i64::from(date.year()) * 12 + i64::from(date.month()),
            _ => i64::from(date.year()),
        }
    }

    /// Whether a snapshot of one series is kept, from the words of the documentation: each is asked by itself, about
    /// all others.
    fn is_kept(of_series: &[Taken], at: usize, rules: &Rules, within_hours: i64, zone: &TimeZone) -> bool {
        if of_series[at].is_pinned {
            return true;
        }
        // Index and time, newest first.
        let unpinned: Vec<(usize, i64)> = (0..of_series.len())
            .rev()
            .filter(|&other| !of_series[other].is_pinned)
            .map(|other| (other, of_series[other].time))
            .collect();
        let newest = of_series.iter().map(|taken| taken.time).filter(|&time| time <= NOW).max().unwrap_or(NOW);
        if within_hours > 0 && of_series[at].time > newest - within_hours * HOUR {
            return true;
        }
        let counts = [rules.last, rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
        counts.iter().enumerate().any(|(rule, &count)| {
            let count = match count {
                KeepCount::AtMost(count) => count as usize,
                KeepCount::Unlimited => usize::MAX,
            };
            let period = |time: i64| {
                let local = Timestamp::from_second(time).unwrap().to_zoned_datetime(zone.clone());
                period_number(rule, local.date(), local.hour())
            };
            let newer = unpinned.iter().take_while(|(other, _)| *other != at);
            if rule == 0 {
                return newer.count() < count;
            }
            let mut newer: Vec<i64> = newer.map(|&(_, time)| period(time)).collect();
            newer.dedup();
            let is_newest_of_its_period = !newer.contains(&period(of_series[at].time));
            let is_oldest = unpinned.last().map(|&(other, _)| other) == Some(at);
            newer.len() < count && (is_newest_of_its_period || is_oldest)
        })
    }

    fn a_count() -> impl Strategy<Value = KeepCount> {
        prop_oneof![
            3 => Just(KeepCount::AtMost(0)),
            4 => (1..6u32).prop_map(KeepCount::AtMost),
            1 => Just(KeepCount::Unlimited),
        ]
    }

    fn some_rules() -> impl Strategy<Value = (Rules, i64)> {
        let counts = [a_count(), a_count(), a_count(), a_count(), a_count(), a_count()];
        (counts, prop_oneof![Just(0i64), 1..2000i64]).prop_map(|(counts, hours)| {
            let [last, hourly, daily, weekly, monthly, yearly] = counts;
            let within = format!("{hours}h").parse().unwrap();
            (Rules { last, hourly, daily, weekly, monthly, yearly, within }, hours)
        })
    }

    /// Times from minutes to years apart, of three phones, some of the future, some pinned.
    fn some_snapshots() -> impl Strategy<Value = Vec<(i64, usize, bool)>> {
        let gap = prop_oneof![0..2 * HOUR, 0..72 * HOUR, 0..90 * 24 * HOUR];
        let one = (gap, 0..3usize, prop::bool::weighted(0.15));
        (prop::collection::vec(one, 0..40), -100 * HOUR..100 * HOUR).prop_map(|(gaps, after)| {
            let mut time = NOW + after;
            let mut all: Vec<(i64, usize, bool)> = gaps
                .into_iter()
                .map(|(gap, series, is_pinned)| {
                    time -= gap;
                    (time, series, is_pinned)
                })
                .collect();
            all.reverse();
            all
        })
    }

    proptest! {
        #[test]
        fn a_naive_reading_of_the_rules_says_the_same(
            snapshots in some_snapshots(),
            (rules, within_hours) in some_rules(),
            zone in prop::sample::select(vec!["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "XXX-14"]),
        ) {
            let zone = TimeZone::posix(zone).unwrap();
            let series = ["one", "two", "three"];
            let taken: Vec<Taken> = snapshots
                .iter()
                .map(|&(time, of, is_pinned)| Taken { time, doubtful: None, series: series[of], is_pinned })
                .collect();
            let reasons = reasons_to_keep(&taken, &rules, NOW, &zone);
            for name in series {
                let places: Vec<usize> = (0..taken.len()).filter(|&at| taken[at].series == name).collect();
                let of_series: Vec<Taken> = places.iter().map(|&at| taken[at]).collect();
                for (at, &place) in places.iter().enumerate() {
                    let expected = is_kept(&of_series, at, &rules, within_hours, &zone);
                    prop_assert_eq!(!reasons[place].is_empty(), expected, "{} {:?}", at, &of_series);
                }
                // The newest stays.
                if let Some(&newest) = places.last() {
                    prop_assert_eq!(reasons[newest].is_empty(), rules.keep_nothing() && !taken[newest].is_pinned);
                }
            }
        }
    }
}
