//! `ls`: what is in a snapshot. One level at a time as ls(1), or all of it.

use std::collections::BTreeMap;

use heirloom_store::{Entry, Kind, Name, Prefix, SnapshotReader, TreePath};
use serde::Serialize;

use crate::{
    access,
    args::{Global, Ls},
    failure::{Exit, Failure, Result},
    report::{Align, JsonArray, Report, Table, count, local_time, printable, rfc3339, size},
    snapshots, typed,
};

pub fn run(args: &Ls, global: &Global, report: &Report) -> Result<Exit> {
    let repository = access::open(global, report)?;
    let snapshot = snapshots::find(&repository, &args.snapshot, report)?;
    let reader = repository.read(&snapshot)?;
    let typed = args.place.as_deref().map(|place| as_kept(&reader, place)).transpose()?;
    let place = Place::parse(typed.as_deref())?;
    let found = if args.recursive {
        list_all(&reader, &place, args, report)?
    } else if place.domain.is_none() {
        list_domains(&reader, report)?
    } else {
        list_folder(&reader, &place, args, report)?
    };
    if found || args.place.is_none() {
        return Ok(Exit::Ok);
    }
    let place = args.place.as_deref().unwrap_or_default();
    let colon = if place.contains('/') && !place.contains(':') {
        "a colon stands after the domain, as in HomeDomain:Library/SMS; "
    } else {
        ""
    };
    Err(Failure::failed(format!("{place}: there is no such thing in snapshot {}", snapshot.id.short()))
        .hint(format!("{colon}`heirloom ls {}` lists the domains, `heirloom ls -R {0}` everything", args.snapshot)))
}

/// The place in the form of bytes that the snapshot has: phones keep accents composed or decomposed, keyboards type
/// either.
fn as_kept(reader: &SnapshotReader, typed: &str) -> Result<String> {
    let mut forms = typed::forms(typed);
    for form in &forms {
        let place = Place::parse(Some(form))?;
        if place.entry(reader)?.is_some() || reader.entries(&place.prefix()).next().is_some() {
            return Ok(form.clone());
        }
    }
    Ok(forms.swap_remove(0))
}

/// Where to look: everywhere, in a domain, or at a path in a domain.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    domain: Option<&'a str>,
    path: Option<TreePath>,
}

impl Place<'_> {
    fn parse(text: Option<&str>) -> Result<Place<'_>> {
        let Some(text) = text else {
            return Ok(Place { domain: None, path: None });
        };
        let (domain, path) = text.split_once(':').unwrap_or((text, ""));
        let path = match path.trim_matches('/') {
            "" => None,
            path => Some(TreePath::new(path)?),
        };
        Ok(Place { domain: Some(domain), path })
    }

    /// What lies below; of a domain, its root as well.
    fn prefix(&self) -> Prefix {
        match (self.domain, &self.path) {
            (None, _) => Prefix::all(),
            (Some(domain), None) => Prefix::domain(domain),
            (Some(domain), Some(path)) => Prefix::below(domain, path),
        }
    }

    fn path(&self) -> &str {
        self.path.as_ref().map_or("", TreePath::as_str)
    }

    /// What lies at the path itself.
    fn entry(&self, reader: &SnapshotReader) -> Result<Option<(Name, Entry)>> {
        let (Some(domain), Some(path)) = (self.domain, &self.path) else {
            return Ok(None);
        };
        let name = Name::new(domain, path.as_str())?;
        Ok(reader.get(&name)?.map(|entry| (name, entry)))
    }
}

/// Everything below the place, as `DOMAIN:PATH`, said as it is read.
fn list_all(reader: &SnapshotReader, place: &Place, args: &Ls, report: &Report) -> Result<bool> {
    let mut array = JsonArray::new(report);
    let itself = place.entry(reader)?;
    let mut found = false;
    for item in itself.map(Ok).into_iter().chain(reader.entries(&place.prefix())) {
        let (name, entry) = item?;
        found = true;
        let typed = format!("{}:{}", name.domain(), name.path());
        if report.json {
            array.item(&EntryRow::of(&name, &entry))?;
        } else if args.long {
            report.line(long_line(&entry, &typed))?;
        } else {
            report.line(printable(&typed))?;
        }
    }
    if report.json { array.finish().map(|()| found) } else { Ok(found) }
}

/// The domains, with what is in each.
fn list_domains(reader: &SnapshotReader, report: &Report) -> Result<bool> {
    let mut domains: Vec<DomainRow> = Vec::new();
    for item in reader.entries(&Prefix::all()) {
        let (name, entry) = item?;
        if domains.last().is_none_or(|last| last.domain != name.domain()) {
            domains.push(DomainRow { domain: name.domain().to_owned(), files: 0, bytes: 0 });
        }
        if let (Some(row), Some(content)) = (domains.last_mut(), &entry.content) {
            row.files += 1;
            row.bytes += content.length;
        }
    }
    if report.json {
        report.json(&domains)?;
    } else {
        let mut table =
            Table::new(&[("DOMAIN", Align::Left), ("FILES", Align::Right), ("SIZE", Align::Right), ("", Align::Left)]);
        for DomainRow { domain, files, bytes } in &domains {
            let (typed, remark) = if domain.is_empty() { (":", "the backup's own files") } else { (&**domain, "") };
            table.row([typed.to_owned(), count(*files), size(*bytes), remark.to_owned()]);
        }
        table.print(report)?;
    }
    Ok(!domains.is_empty())
}

/// One level of a folder, or the one thing that lies there.
fn list_folder(reader: &SnapshotReader, place: &Place, args: &Ls, report: &Report) -> Result<bool> {
    let mut children: BTreeMap<String, Child> = BTreeMap::new();
    let mut found = false;
    for item in reader.entries(&place.prefix()) {
        let (name, entry) = item?;
        found = true;
        if let Some((child, is_deeper)) = child_of(name.path(), place.path()) {
            children.entry(child.to_owned()).or_default().add(entry, is_deeper);
        }
    }
    let domain = place.domain.unwrap_or_default();
    let itself = if found { None } else { place.entry(reader)? };
    let Some((name, entry)) = itself else {
        return print_children(&children, domain, place.path(), args, report).map(|()| found);
    };
    if entry.kind != Kind::Directory {
        let (folder, last) = name.path().rsplit_once('/').unwrap_or(("", name.path()));
        children.entry(last.to_owned()).or_default().add(entry, false);
        return print_children(&children, domain, folder, args, report).map(|()| true);
    }
    print_children(&children, domain, place.path(), args, report).map(|()| true)
}

fn print_children(
    children: &BTreeMap<String, Child>,
    domain: &str,
    folder: &str,
    args: &Ls,
    report: &Report,
) -> Result<()> {
    let mut array = JsonArray::new(report);
    for (child, what) in children {
        let is_folder = what.is_folder || what.entry.as_ref().is_some_and(|entry| entry.kind == Kind::Directory);
        let shown = if is_folder { format!("{child}/") } else { child.clone() };
        if report.json {
            let path = if folder.is_empty() { child.clone() } else { format!("{folder}/{child}") };
            array.item(&what.row(domain, path))?;
        } else if args.long {
            let entry = what.entry.clone().unwrap_or_else(|| Entry::new(Kind::Directory));
            report.line(long_line(&entry, &shown))?;
        } else {
            report.line(printable(&shown))?;
        }
    }
    if report.json { array.finish() } else { Ok(()) }
}

/// What lies in a folder under one name.
#[derive(Default)]
struct Child {
    entry: Option<Entry>,
    is_folder: bool,
    /// Files at and below it that have content, and their bytes.
    files: u64,
    bytes: u64,
}

impl Child {
    /// Counts an entry that lies there or deeper.
    fn add(&mut self, entry: Entry, is_deeper: bool) {
        if let Some(content) = &entry.content {
            self.files += 1;
            self.bytes += content.length;
        }
        if is_deeper {
            self.is_folder = true;
        } else {
            self.entry = Some(entry);
        }
    }

    fn row(&self, domain: &str, path: String) -> EntryRow {
        let entry = self.entry.clone().unwrap_or_else(|| Entry::new(Kind::Directory));
        let mut row = EntryRow::bare(domain, path, &entry);
        if row.kind == "directory" {
            (row.files, row.bytes) = (Some(self.files), Some(self.bytes));
        }
        row
    }
}

/// The part of `path` right below `folder`, and whether there is more after it.
fn child_of<'p>(path: &'p str, folder: &str) -> Option<(&'p str, bool)> {
    let below = if folder.is_empty() { path } else { path.strip_prefix(folder)?.strip_prefix('/')? };
    match below.split_once('/') {
        Some((child, _)) => Some((child, true)),
        None => (!below.is_empty()).then_some((below, false)),
    }
}

/// A domain in JSON.
#[derive(Serialize)]
struct DomainRow {
    domain: String,
    files: u64,
    bytes: u64,
}

/// An entry in JSON. `bytes` is null for a file that was not in the backup folder.
#[derive(Serialize)]
struct EntryRow {
    domain: String,
    path: String,
    kind: &'static str,
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<u64>,
    place: Option<String>,
    target: Option<String>,
    mode: Option<u32>,
    modified: Option<String>,
}

impl EntryRow {
    fn of(name: &Name, entry: &Entry) -> EntryRow {
        EntryRow {
            place: entry.place_for(name).map(|place| place.to_string()),
            ..EntryRow::bare(name.domain(), name.path().to_owned(), entry)
        }
    }

    fn bare(domain: &str, path: String, entry: &Entry) -> EntryRow {
        EntryRow {
            place: Name::new(domain, &path).ok().and_then(|name| entry.place_for(&name)).map(|place| place.to_string()),
            domain: domain.to_owned(),
            path,
            kind: match entry.kind {
                Kind::File => "file",
                Kind::Directory => "directory",
                Kind::Symlink => "symlink",
            },
            bytes: entry.content.as_ref().map(|content| content.length),
            files: None,
            target: entry.target.clone(),
            mode: entry.phone.mode,
            modified: modified(entry).and_then(rfc3339),
        }
    }
}

/// `-rw-r--r--    3.5 MB  2021-01-15 02:38  Library/SMS/sms.db`
fn long_line(entry: &Entry, name: &str) -> String {
    let bytes = match (&entry.content, entry.kind) {
        (Some(content), _) => size(content.length),
        (None, Kind::File) => "missing".to_owned(),
        (None, _) => "-".to_owned(),
    };
    let time = modified(entry).map_or("-".to_owned(), local_time);
    let target = entry.target.as_ref().map(|target| format!(" -> {}", printable(target))).unwrap_or_default();
    format!("{}  {bytes:>8}  {time:>16}  {}{target}", mode_text(entry), printable(name))
}

/// When it was modified on the phone, or else in the backup folder; seconds since 1970.
fn modified(entry: &Entry) -> Option<i64> {
    entry.phone.mtime.or(entry.place_mtime_ns.map(|nanoseconds| nanoseconds.div_euclid(1_000_000_000)))
}

/// As ls(1) writes it; `?` where the phone did not say.
fn mode_text(entry: &Entry) -> String {
    let kind = match entry.kind {
        Kind::File => '-',
        Kind::Directory => 'd',
        Kind::Symlink => 'l',
    };
    let Some(mode) = entry.phone.mode else {
        return format!("{kind}?????????");
    };
    let bits = (0..9).map(|bit| if mode & (0o400 >> bit) == 0 { '-' } else { ['r', 'w', 'x'][bit % 3] });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_domain_and_perhaps_a_path() {
        let path = |text| Some(TreePath::new(text).unwrap());
        let cases = [
            (None, None, None),
            (Some("HomeDomain"), Some("HomeDomain"), None),
            (Some("HomeDomain:Library/SMS/"), Some("HomeDomain"), path("Library/SMS")),
            (Some(":"), Some(""), None),
            (Some(":3d/file:with colon"), Some(""), path("3d/file:with colon")),
        ];
        for (text, domain, path) in cases {
            assert_eq!(Place::parse(text).unwrap(), Place { domain, path });
        }
        assert!(Place::parse(Some("HomeDomain:../x")).is_err());
    }

    #[test]
    fn children_are_one_level_below() {
        assert_eq!(child_of("Library", ""), Some(("Library", false)));
        assert_eq!(child_of("Library/SMS/sms.db", ""), Some(("Library", true)));
        assert_eq!(child_of("Library/SMS/sms.db", "Library"), Some(("SMS", true)));
        assert_eq!(child_of("Library/SMS/sms.db", "Library/SMS"), Some(("sms.db", false)));
        assert_eq!(child_of("Library2/x", "Library"), None);
        assert_eq!(child_of("Library", "Library"), None);
        assert_eq!(child_of("", ""), None);
    }

    #[test]
    fn modes_are_written_as_ls_does() {
        let mut entry = Entry::new(Kind::File);
        assert_eq!(mode_text(&entry), "-?????????");
        entry.phone.mode = Some(0o100_644);
        assert_eq!(mode_text(&entry), "-rw-r--r--");
        entry.kind = Kind::Directory;
        entry.phone.mode = Some(0o40_751);
        assert_eq!(mode_text(&entry), "drwxr-x--x");
    }

    #[test]
    fn a_long_line_cannot_steer_the_terminal() {
        let entry = Entry { target: Some("\x1b[0m".into()), ..Entry::new(Kind::Symlink) };
        assert!(!long_line(&entry, "a\rb").contains(['\x1b', '\r']));
    }
}
