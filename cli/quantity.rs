//! Sizes, times and parts as they are typed.

use std::time::Duration;

use heirloom_store::Subset;
use jiff::SignedDuration;

type Parsed<T> = std::result::Result<T, String>;

/// Reads a number of bytes: `60M`, `2G`, `1500000`; powers of 1000, as sizes are written.
pub fn parse_size(text: &str) -> Parsed<u64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits_end);
    let factor = match unit.trim().to_ascii_uppercase().trim_end_matches('B') {
        "" => 1.0,
        "K" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        _ => return Err(format!("{unit:?} is no unit: use K, M, G or T")),
    };
    let number: f64 = number.parse().map_err(|_| "not a size such as 60M".to_owned())?;
    Ok((number * factor) as u64)
}

/// Reads how long something may take: `90s`, `30m`, `1h30m`.
pub fn parse_time(text: &str) -> Parsed<Duration> {
    let time = text.parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    time.filter(|time| !time.is_zero()).ok_or_else(|| "not a time such as 30m or 2h".to_owned())
}

/// Reads a part in percent, `5` or `5%`, of any size; from 0 to 1 and beyond.
pub fn parse_percent(text: &str) -> Parsed<f64> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse().ok().filter(|percent: &f64| *percent >= 0.0);
    percent.map(|percent| percent / 100.0).ok_or_else(|| "not a part such as 5%".to_owned())
}

/// Reads a part of a repository: `5%`, `10G`, `2/7`.
pub fn parse_subset(text: &str) -> Parsed<Subset> {
    if let Some(percent) = text.strip_suffix('%') {
        let percent = percent.trim().parse().ok().filter(|percent: &f64| *percent > 0.0 && *percent <= 100.0);
        let share = percent.map(|percent| Subset::Share(percent / 100.0));
        return share.ok_or_else(|| "not a part such as 5%".to_owned());
    }
    if let Some((number, of)) = text.split_once('/') {
        let group =
            number.trim().parse().ok().zip(of.trim().parse().ok()).filter(|(number, of)| (1..=*of).contains(number));
        let group = group.map(|(number, of)| Subset::Group { number, of });
        return group.ok_or_else(|| "not a group such as 2/7, the second of seven".to_owned());
    }
    match parse_size(text) {
        Ok(bytes) if bytes > 0 => Ok(Subset::Bytes(bytes)),
        _ => Err("not a part such as 5%, 10G or 2/7".to_owned()),
    }
}

/// A label of a key.
pub fn parse_label(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        label if label.len() > heirloom_store::LABEL_MAX_LEN => {
            Err(format!("it has more than {} bytes", heirloom_store::LABEL_MAX_LEN))
        }
        label => Ok(label.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_they_are_written() {
        for (text, bytes) in [("60M", 60_000_000), ("1.5 GB", 1_500_000_000), ("17", 17), ("2k", 2000)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for bad in ["", "M", "1.2.3M", "-5", "5 parsecs"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn percents_are_read_with_or_without_their_sign() {
        for (text, part) in [("5", 0.05), ("12.5%", 0.125), ("0", 0.0), ("200 %", 2.0)] {
            assert_eq!(parse_percent(text), Ok(part), "{text}");
        }
        for bad in ["", "-1", "NaN", "a lot"] {
            assert!(parse_percent(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1h 30m", 5400)] {
            assert_eq!(parse_time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "30", "-5m", "0s", "soon"] {
            assert!(parse_time(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_are_percents_sizes_or_groups() {
        for (text, subset) in [
            ("5%", Subset::Share(0.05)),
            ("100 %", Subset::Share(1.0)),
            ("10G", Subset::Bytes(10_000_000_000)),
            ("2/7", Subset::Group { number: 2, of: 7 }),
            ("1/1", Subset::Group { number: 1, of: 1 }),
        ] {
            assert_eq!(parse_subset(text), Ok(subset), "{text}");
        }
        for bad in ["", "0%", "101%", "NaN%", "-1%", "0/7", "8/7", "1/0", "a/b", "0", "x"] {
            assert!(parse_subset(bad).is_err(), "{bad}");
        }
    }
}
