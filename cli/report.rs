//! Everything that the program says.
//!
//! Results go to stdout; notes, warnings, errors and progress to stderr. Warnings and errors are always said, notes
//! unless `--quiet`, details with `--verbose`. With `--json` a result is JSON, a warning or an error is a JSON object
//! on a line, and after warnings a last line tells how many there were. On a terminal progress is a bar; elsewhere a
//! plain line every few seconds, so that short work says nothing. All text is made harmless for terminals here, whether
//! stdout is one or not, because it comes from phones, disks and folders; JSON has it as it is. Colour marks only the
//! words `error`, `warning` and `hint`, and only on a terminal without `NO_COLOR`.

use std::{
    fmt::Display,
    io::{self, BufWriter, IsTerminal, Write},
    ops::{ControlFlow, Range},
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::{
    args::Global,
    failure::{Exit, Failure, Result},
    interrupt,
};

/// Who speaks, and how.
pub struct Report {
    pub json: bool,
    quiet: bool,
    verbose: u8,
    progress: bool,
    terminal: bool,
    color: bool,
    /// Columns of the terminal that shows the results, if one does.
    columns: Option<usize>,
    /// Whether nothing is left to be done when nobody reads the results any more.
    ends_with_its_reader: bool,
    /// Whether nobody reads them any more.
    is_unread: AtomicBool,
    /// How many warnings were said.
    warned: AtomicU64,
    stdout: Mutex<BufWriter<io::Stdout>>,
    bar: Mutex<Option<ProgressBar>>,
}

impl Report {
    pub fn new(global: &Global) -> Report {
        let terminal = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Report {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            progress: !(global.json || global.quiet || global.no_progress),
            terminal,
            color: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
            columns: columns(),
            ends_with_its_reader: false,
            is_unread: AtomicBool::new(false),
            warned: AtomicU64::new(0),
            stdout: Mutex::new(BufWriter::new(io::stdout())),
            bar: Mutex::new(None),
        }
    }

    /// The same, which fails with [`Exit::Ok`] once nobody reads on, if `ends`; else it goes
    /// on unheard.
    #[must_use]
    pub fn ending_with_its_reader(self, ends: bool) -> Report {
        Report { ends_with_its_reader: ends, ..self }
    }

    /// Columns of the terminal that shows the results; `None` if they go elsewhere.
    pub fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// A line of the result, or several.
    pub fn line(&self, text: impl Display) -> Result<()> {
        self.write(format_args!("{}\n", printable_lines(&text.to_string())))
    }

    /// A part of the result, as it is.
    pub fn write(&self, text: impl Display) -> Result<()> {
        self.to_stdout(|stdout| write!(stdout, "{text}"))
    }

    /// The result as JSON, on one line.
    pub fn json(&self, result: &impl Serialize) -> Result<()> {
        self.write(format_args!("{}\n", to_json(result)?))
    }

    /// Sends what was said to stdout on its way.
    pub fn flush(&self) -> Result<()> {
        self.to_stdout(BufWriter::flush)
    }

    fn to_stdout(&self, write: impl FnOnce(&mut BufWriter<io::Stdout>) -> io::Result<()>) -> Result<()> {
        if self.is_unread.load(Ordering::Relaxed) {
            return Ok(());
        }
        match write(&mut self.stdout.lock().unwrap_or_else(PoisonError::into_inner)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe && !self.ends_with_its_reader => {
                self.is_unread.store(true, Ordering::Relaxed);
                Ok(())
            }
            written => written.map_err(|error| Failure::of_stdout(&error)),
        }
    }

    /// Something good to know.
    pub fn note(&self, text: impl Display) {
        if !self.quiet && !self.json {
            self.say(&printable_lines(&text.to_string()));
        }
    }

    /// Something that few want to know.
    pub fn detail(&self, text: impl Display) {
        if self.verbose > 0 && !self.json {
            self.say(&printable_lines(&text.to_string()));
        }
    }

    /// Something that is not as it should be, which did not stop the work.
    pub fn warn(&self, text: impl Display) {
        let text = text.to_string();
        self.warned.fetch_add(1, Ordering::Relaxed);
        if self.json {
            self.say(&serde_json::json!({ "message_type": "warning", "message": text }).to_string());
        } else {
            self.say(&format!("{} {}", self.paint("33", "warning:"), printable(&text)));
        }
    }

    /// Why it was not done.
    pub fn error(&self, failure: &Failure) {
        let Failure { exit, message, hint } = failure;
        if self.json {
            let object =
                serde_json::json!({ "message_type": "error", "code": exit.code(), "message": message, "hint": hint });
            return self.say(&object.to_string());
        }
        self.say(&format!("{} {}", self.paint("1;31", "error:"), printable_lines(message)));
        if let Some(hint) = hint {
            self.say(&format!("{} {}", self.paint("36", "hint:"), printable_lines(hint)));
        }
    }

    /// Says in JSON how many warnings there were, if there were any, as the last line of all.
    pub fn summary(&self, exit: Exit) {
        let warnings = self.warned.load(Ordering::Relaxed);
        if self.json && warnings > 0 {
            let object = serde_json::json!({ "message_type": "summary", "code": exit.code(), "warnings": warnings });
            self.say(&object.to_string());
        }
    }

    /// Shows how long work goes on, until the value is dropped. One at a time.
    pub fn progress(&self, verb: &str) -> Progress<'_> {
        let (now, verb) = (Instant::now(), printable(verb));
        if self.progress && self.terminal {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
            bar.set_style(bar_style(BYTES_UNKNOWN));
            bar.set_message(verb.clone());
            *self.bar() = Some(bar);
        }
        let pace = Pace { verb, started: now, said: now, style: BYTES_UNKNOWN };
        Progress { report: self, state: Mutex::new(pace) }
    }

    /// One line on stderr, above the bar if there is one, and after what was said on stdout. Nobody can be told that
    /// stderr is closed; that stdout is, the next flush tells.
    fn say(&self, line: &str) {
        let _ = self.flush();
        let say = || drop(writeln!(io::stderr(), "{line}"));
        match &*self.bar() {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    /// The same where there is no bar.
    fn say_below(&self, line: &str) {
        let _ = self.flush();
        let _ = writeln!(io::stderr(), "{line}");
    }

    fn bar(&self) -> std::sync::MutexGuard<'_, Option<ProgressBar>> {
        self.bar.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn paint(&self, style: &str, word: &str) -> String {
        if self.color { format!("\x1b[{style}m{word}\x1b[0m") } else { word.to_owned() }
    }
}

/// A JSON array on its way to stdout, an item a line, so that it may be as long as it likes.
pub struct JsonArray<'r> {
    report: &'r Report,
    items: u64,
}

impl<'r> JsonArray<'r> {
    pub fn new(report: &'r Report) -> JsonArray<'r> {
        JsonArray { report, items: 0 }
    }

    pub fn item(&mut self, item: &impl Serialize) -> Result<()> {
        let before = if self.items == 0 { "[\n" } else { ",\n" };
        self.items += 1;
        self.report.write(format_args!("{before}{}", to_json(item)?))
    }

    pub fn finish(self) -> Result<()> {
        self.report.write(if self.items == 0 { "[]\n" } else { "\n]\n" })
    }
}

/// Columns of the terminal on stdout: of COLUMNS, or as the system says.
fn columns() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    let wished = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let columns = wished.or_else(|| terminal_size::terminal_size().map(|(width, _)| width.0.into()));
    columns.filter(|columns| *columns > 0)
}

/// Whether somebody can be asked.
pub fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// JSON on one line.
pub fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Failure::failed(format!("cannot write this as JSON: {error}")))
}

// ---- progress ----------------------------------------------------------------------------------------------------------------

const PLAIN_LINE_EVERY: Duration = Duration::from_secs(5);
const BAR_EVERY: Duration = Duration::from_millis(100);
const BYTES_UNKNOWN: &str = "{msg} {spinner} {decimal_bytes}, {decimal_bytes_per_sec}";
const BYTES_KNOWN: &str =
    "{msg} [{wide_bar}] {decimal_bytes} of {decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
const PART_KNOWN: &str = "{msg} [{wide_bar}] {prefix}";
/// Of how many steps a bar is whose end is known as a part.
const PARTS: f64 = 1000.0;
/// An estimate of the whole that is made of less than this is none.
const PART_MIN: f64 = 0.02;

/// Long work, told as it goes on. Dropping it ends the bar.
pub struct Progress<'r> {
    report: &'r Report,
    state: Mutex<Pace>,
}

struct Pace {
    verb: String,
    started: Instant,
    said: Instant,
    style: &'static str,
}

impl Progress<'_> {
    /// Says what the work is at from now on, and begins to measure its rate anew.
    pub fn phase(&self, words: &str) {
        if !self.report.progress {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let words = printable(words);
        words.clone_into(&mut state.verb);
        state.started = Instant::now();
        match &*self.report.bar() {
            Some(bar) => bar.set_message(words),
            None if self.report.terminal => {}
            None => self.report.say_below(&words),
        }
    }

    /// Says where the work is. Totals are 0 while unknown. Cheap enough for each file.
    pub fn update(&self, now: heirloom_store::Progress) {
        self.show(now, None);
    }

    /// Says where the work is, and gives whether it should go on.
    pub fn step(&self, now: heirloom_store::Progress) -> ControlFlow<()> {
        self.update(now);
        interrupt::go_on()
    }

    /// Says where work is whose end is known only as a part, from 0 to 1, by somebody else's estimate.
    pub fn update_part(&self, now: heirloom_store::Progress, part: Option<f64>) {
        self.show(now, part.map(|part| part.clamp(0.0, 1.0)));
    }

    fn show(&self, now: heirloom_store::Progress, part: Option<f64>) {
        if !self.report.progress {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let every = if self.report.terminal { BAR_EVERY } else { PLAIN_LINE_EVERY };
        if state.said.elapsed() < every {
            return;
        }
        state.said = Instant::now();
        let pace = pace(now, state.started.elapsed(), part);
        let bar = self.report.bar();
        let Some(bar) = &*bar else {
            if !self.report.terminal {
                self.report.say_below(&format!("{}: {pace}", state.verb));
            }
            return;
        };
        let (style, length, position) = match part {
            Some(part) => (PART_KNOWN, PARTS as u64, (part * PARTS) as u64),
            None if now.bytes_total > 0 => (BYTES_KNOWN, now.bytes_total, now.bytes_done),
            None => (BYTES_UNKNOWN, 0, now.bytes_done),
        };
        if state.style != style {
            bar.set_style(bar_style(style));
            state.style = style;
        }
        bar.set_length(length);
        bar.set_prefix(pace);
        bar.set_position(position);
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.report.bar().take() {
            bar.finish_and_clear();
        }
    }
}

fn bar_style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// `812 of 13 002 files, 1.2 of 3.4 GB, 310 MB/s, 7 s left`
fn pace(now: heirloom_store::Progress, elapsed: Duration, part: Option<f64>) -> String {
    let of = |done: String, total: u64, show: fn(u64) -> String| {
        if total > 0 { format!("{done} of {}", show(total)) } else { done }
    };
    let rate = now.bytes_done as f64 / elapsed.as_secs_f64().max(0.001);
    let mut line = format!(
        "{} files, {}, {}/s",
        of(count(now.files_done), now.files_total, count),
        of(size(now.bytes_done), now.bytes_total, size),
        size(rate as u64)
    );
    let left = match part {
        Some(part) if part >= PART_MIN => Some(elapsed.as_secs_f64() * (1.0 - part) / part),
        Some(_) => None,
        None => {
            (now.bytes_total > now.bytes_done && rate > 0.0).then(|| (now.bytes_total - now.bytes_done) as f64 / rate)
        }
    };
    if let Some(part) = part {
        line += &format!(", {:.0} %", part * 100.0);
    }
    if let Some(left) = left {
        line += &format!(", {} left", duration(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX)));
    }
    line
}

// ---- how things are written --------------------------------------------------------------------------------------------------

/// A number of bytes as Finder shows it: `812 KB`, `3.5 MB`; powers of 1000.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if value < 9.95 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

/// A number with its thousands apart: `13 002`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 file`, `13 files`.
pub fn files(number: u64) -> String {
    of_many(number, "file", "files")
}

/// A number and the word for what was counted.
pub fn of_many(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// A duration to the precision that a person wants: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`.
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

/// Seconds since 1970 as a person reads them, in local time: `2021-01-15 02:38`.
pub fn local_time(unix_seconds: i64) -> String {
    match Timestamp::from_second(unix_seconds) {
        Ok(time) => time.to_zoned_datetime(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string(),
        Err(_) => format!("@{unix_seconds}"),
    }
}

/// Seconds since 1970 by RFC 3339, in UTC; `null` in JSON for a time outside of its years.
pub fn rfc3339(unix_seconds: i64) -> Option<String> {
    Timestamp::from_second(unix_seconds).ok().map(|time| time.to_string())
}

/// Text that comes from elsewhere, with everything that would steer a terminal written out.
pub fn printable(text: &str) -> String {
    escape(text, |_| false)
}

/// A path as it is typed: in quotes where a shell would take it for something else.
pub fn for_shell(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+:,@%=".contains(c) || (cfg!(windows) && c == '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text;
    }
    if cfg!(windows) { format!("\"{text}\"") } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// The same for text of several lines.
fn printable_lines(text: &str) -> String {
    escape(text, |c| c == '\n')
}

fn escape(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut written = String::with_capacity(text.len());
    let mut before = '\0';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let joins =
            matches!(c, '\u{200c}' | '\u{200d}') && is_joined(before) && rest.peek().copied().is_some_and(is_joined);
        if is_harmful(c) && !keep(c) && !joins {
            written.extend(c.escape_default())
        } else {
            written.push(c)
        }
        before = c;
    }
    written
}

/// Whether a character steers a terminal, turns the order of others around, begins a line, or cannot be seen.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Whether what joins letters or pictures may stand beside a character: in Persian and Hindi, and in an emoji of a
/// family.
fn is_joined(c: char) -> bool {
    c as u32 > 0x2ff && !is_harmful(c)
}

/// Rows under a head, each column as wide as its widest cell. Nothing is cut off: where the terminal is too narrow for
/// all columns, those that have no room stand below, indented, and text that is too long goes on below itself.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

/// To which side of its column a cell keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// Columns that stand on one line.
struct Band {
    indent: usize,
    columns: Range<usize>,
}

const GAP: &str = "  ";

impl Table {
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as there are columns.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable(&cell)).collect());
    }

    pub fn print(&self, report: &Report) -> Result<()> {
        self.lines(report.columns()).into_iter().try_for_each(|line| report.line(line))
    }

    /// Lines that are no wider than `room`, if that is known.
    fn lines(&self, room: Option<usize>) -> Vec<String> {
        let room = room.unwrap_or(usize::MAX);
        let head: Vec<String> = self.columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        let all = || std::iter::once(&head).chain(&self.rows);
        let widest = |column: usize| all().map(|row| row[column].width()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(|column| widest(column).min(room)).collect();
        let bands = bands(&widths, room);
        all().flat_map(|row| bands.iter().flat_map(|band| self.band(band, &widths, row))).collect()
    }

    /// The lines that a band of a row takes: one, unless a cell is too long; none below the first if it is empty.
    fn band(&self, band: &Band, widths: &[usize], row: &[String]) -> Vec<String> {
        let cells: Vec<(usize, Vec<String>)> =
            band.columns.clone().map(|column| (column, folded(&row[column], widths[column]))).collect();
        let height = cells.iter().map(|(_, lines)| lines.len()).max().unwrap_or(0);
        let least = usize::from(band.columns.start == 0);
        let line = |at: usize| {
            let cell = |(column, lines): &(usize, Vec<String>)| {
                let text = lines.get(at).map_or("", String::as_str);
                let gap = " ".repeat(widths[*column].saturating_sub(text.width()));
                if self.columns[*column].1 == Align::Left { format!("{text}{gap}") } else { format!("{gap}{text}") }
            };
            let line = cells.iter().map(cell).collect::<Vec<_>>().join(GAP);
            format!("{}{}", " ".repeat(band.indent), line.trim_end())
        };
        (0..height.max(least)).map(line).collect()
    }
}

/// How columns share lines of so much room: as many on each as fit.
fn bands(widths: &[usize], room: usize) -> Vec<Band> {
    let mut bands: Vec<Band> = Vec::new();
    let mut end = 0;
    for (column, width) in widths.iter().enumerate() {
        match bands.last_mut() {
            Some(band) if end + GAP.len() + width <= room => {
                band.columns.end = column + 1;
                end += GAP.len() + width;
            }
            last => {
                // What has just room enough for itself is not indented.
                let indent = if last.is_some() && GAP.len() + width <= room { GAP.len() } else { 0 };
                bands.push(Band { indent, columns: column..column + 1 });
                end = indent + width;
            }
        }
    }
    bands
}

/// Text on lines of `room` columns, broken between words where that can be; none of no text.
fn folded(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_inclusive(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + word.trim_end().width() <= room => line.push_str(word),
            _ => {
                lines.push(String::new());
                for c in word.chars() {
                    let is_full = lines
                        .last()
                        .is_some_and(|line| !line.is_empty() && line.width() + c.width().unwrap_or(0) > room);
                    if is_full && c != ' ' {
                        lines.push(String::new());
                    }
                    lines.last_mut().expect("one was pushed").push(c);
                }
            }
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_finder_does() {
        let cases = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 KB"),
            (812_345, "812 KB"),
            (3_541_000, "3.5 MB"),
            (9_960_000, "10 MB"),
            (999_999, "1.0 MB"),
            (u64::MAX, "18 EB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn numbers_have_their_thousands_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1076, "1 076"), (1_234_567, "1 234 567")] {
            assert_eq!(count(number), text);
        }
        assert_eq!((files(1), files(13)), ("1 file".to_owned(), "13 files".to_owned()));
    }

    #[test]
    fn durations_are_short() {
        for (millis, text) in [(420, "0.4 s"), (12_900, "12 s"), (200_000, "3 min 20 s"), (7_500_000, "2 h 5 min")] {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_a_terminal() {
        assert_eq!(printable("Maria’s iPhone 📱"), "Maria’s iPhone 📱");
        assert_eq!(printable("\x1b[2Jgone\r\n\u{202e}"), "\\u{1b}[2Jgone\\r\\n\\u{202e}");
        for c in "\u{61c}\u{200b}\u{200d}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{2060}\u{2066}\u{2069}\u{feff}\u{9b}\u{7f}\u{e0041}".chars() {
            assert_eq!(printable(&format!("a{c}b")), format!("a{}b", c.escape_unicode()), "{c:?}");
        }
        for whole in ["\u{1f469}\u{200d}\u{1f467}", "\u{645}\u{6cc}\u{200c}\u{62e}"] {
            assert_eq!(printable(whole), whole);
        }
        assert_eq!(printable_lines("one\ntwo\rthree"), "one\ntwo\\rthree");
    }

    #[test]
    fn paths_can_be_typed_as_they_are_shown() {
        for (path, typed) in [
            ("/mnt/disk/phones", "/mnt/disk/phones"),
            ("/Volumes/My Disk/phones", "'/Volumes/My Disk/phones'"),
            ("maria's", r"'maria'\''s'"),
            ("$HOME", "'$HOME'"),
        ] {
            assert!(cfg!(windows) || for_shell(Path::new(path)) == typed, "{path}");
        }
    }

    #[test]
    fn a_table_lines_up() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right), ("", Align::Left)]);
        table.row(["Maria’s".into(), "3.5 MB".into(), String::new()]);
        table.row(["x".into(), "812 KB!".into(), "odd".into()]);
        assert_eq!(table.lines(None), ["NAME        SIZE", "Maria’s   3.5 MB", "x        812 KB!  odd"]);
    }

    #[test]
    fn a_narrow_table_folds_and_loses_nothing() {
        let mut table = Table::new(&[("ID", Align::Left), ("DEVICE", Align::Left), ("SIZE", Align::Right)]);
        table.row(["1f3a9c2e".into(), "Maria’s iPhone".into(), "3.5 MB".into()]);
        table.row(["77aa0011".into(), "まりあの電話 はとても長い".into(), "812 KB".into()]);
        assert_eq!(
            table.lines(Some(43)),
            [
                "ID        DEVICE                       SIZE",
                "1f3a9c2e  Maria’s iPhone             3.5 MB",
                "77aa0011  まりあの電話 はとても長い  812 KB",
            ]
        );
        assert_eq!(
            table.lines(Some(40)),
            [
                "ID        DEVICE",
                "    SIZE",
                "1f3a9c2e  Maria’s iPhone",
                "  3.5 MB",
                "77aa0011  まりあの電話 はとても長い",
                "  812 KB",
            ]
        );
        let narrow = table.lines(Some(14));
        assert!(narrow.iter().all(|line| line.width() <= 14), "{narrow:#?}");
        let told: String = narrow.concat().split_whitespace().collect();
        for word in ["1f3a9c2e", "Maria’siPhone", "3.5MB", "77aa0011", "まりあの電話はとても長い", "812KB"]
        {
            assert!(told.contains(word), "{word}: {narrow:#?}");
        }
    }

    #[test]
    fn an_id_that_just_fits_is_not_indented() {
        let udid = "7".repeat(40);
        let mut table = Table::new(&[("NAME", Align::Left), ("UDID", Align::Left), ("", Align::Left)]);
        table.row(["x".into(), udid.clone(), String::new()]);
        assert_eq!(table.lines(Some(40)), ["NAME", "UDID", "x", &udid]);
    }

    #[test]
    fn a_plain_line_says_how_far_how_fast_and_how_long() {
        let now = heirloom_store::Progress {
            files_done: 812,
            files_total: 13_002,
            bytes_done: 1_000_000_000,
            bytes_total: 3_000_000_000,
            ..Default::default()
        };
        let seconds = Duration::from_secs;
        let line = pace(now, seconds(5), None);
        assert_eq!(line, "812 of 13 002 files, 1.0 GB of 3.0 GB, 200 MB/s, 10 s left");
        let unknown = heirloom_store::Progress { files_total: 0, bytes_total: 0, ..now };
        assert_eq!(pace(unknown, seconds(5), None), "812 files, 1.0 GB, 200 MB/s");
        assert_eq!(pace(unknown, seconds(5), Some(0.25)), "812 files, 1.0 GB, 200 MB/s, 25 %, 15 s left");
        assert_eq!(pace(unknown, seconds(5), Some(0.0)), "812 files, 1.0 GB, 200 MB/s, 0 %");
    }

    #[test]
    fn times_outside_of_the_calendar_do_no_harm() {
        assert_eq!(local_time(i64::MAX), format!("@{}", i64::MAX));
        assert_eq!(rfc3339(i64::MIN), None);
        assert_eq!(rfc3339(1_610_678_324).as_deref(), Some("2021-01-15T02:38:44Z"));
    }
}
