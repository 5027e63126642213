//! `devices`: the phones in reach, whether they trust this computer, and when each was last backed up.

use heirloom_device::mux::{Connection, Mux};
use heirloom_store::SnapshotList;
use serde::Serialize;

use crate::{
    access,
    args::Global,
    failure::{Exit, Failure, Result},
    identity::usual_case,
    phone::{self, InReach, Phone},
    report::{Align, Report, Table, local_time, of_many, rfc3339},
    snapshots,
};

/// A phone in JSON; `null` is what it does not tell before it trusts this computer.
#[derive(Serialize)]
struct Row {
    udid: String,
    name: Option<String>,
    product_type: Option<String>,
    product_version: Option<String>,
    /// `usb` or `network`.
    connection: &'static str,
    trusted: bool,
    /// Whether it encrypts its backups.
    encrypted: Option<bool>,
    /// Null also if the repository was not given, or needs a password that was not.
    last_backup: Option<String>,
    #[serde(skip)]
    last_backup_time: Option<i64>,
    #[serde(skip)]
    trust: &'static str,
}

pub fn run(global: &Global, report: &Report) -> Result<Exit> {
    let mux = phone::muxer()?;
    let found = phone::in_reach(&mux)?;
    let list = if found.is_empty() { None } else { known_snapshots(global, report) };
    let rows: Vec<Row> = found.into_iter().map(|found| row(&mux, found, list.as_ref())).collect();
    let exit = if rows.is_empty() { Exit::NoDevice } else { Exit::Ok };
    if report.json {
        report.json(&rows)?;
    } else if rows.is_empty() {
        report.note("no phone is in reach: connect one with its cable and unlock it");
    } else {
        let strangers = rows.iter().filter(|row| row.trust == "no").count() as u64;
        print_table(rows, list.is_some(), report)?;
        if strangers > 0 {
            let whose = of_many(strangers, "phone does", "phones do");
            report.note(format_args!("{whose} not trust this computer yet: `heirloom pair`"));
        }
    }
    Ok(exit)
}

/// Knowledge of the repository about phones, if it opens without a question. Phones are listed in any case.
fn known_snapshots(global: &Global, report: &Report) -> Option<SnapshotList> {
    global.repo.as_ref().filter(|path| !path.as_os_str().is_empty())?;
    let opened = match access::open_unasked(global, report) {
        Ok(Some(repository)) => repository.snapshots().map_err(Failure::from),
        Ok(None) => {
            report.note("when each was last backed up is not shown: the repository needs its password for that");
            return None;
        }
        Err(failure) => Err(failure),
    };
    opened.inspect_err(|failure| report.warn(format_args!("the repository tells nothing: {}", failure.message))).ok()
}

fn row(mux: &dyn Mux, InReach { device, name, too_old }: InReach, list: Option<&SnapshotList>) -> Row {
    let series = usual_case(&device.udid);
    let last_backup_time = list.and_then(|list| list.newest_of(&series)).map(snapshots::taken_at);
    let mut row = Row {
        udid: device.udid.clone(),
        name,
        product_type: None,
        product_version: too_old,
        connection: if device.connection == Connection::Usb { "usb" } else { "network" },
        trusted: false,
        encrypted: None,
        last_backup: last_backup_time.and_then(rfc3339),
        last_backup_time,
        trust: "no",
    };
    if row.product_version.is_some() {
        row.trust = "too old";
        return row;
    }
    match Phone::connect(mux, &device) {
        Ok(mut phone) => {
            let text = |key| phone.text(key).map(str::to_owned);
            row.product_type = text("ProductType");
            row.product_version = text("ProductVersion");
            row.name = text("DeviceName").or(row.name);
            row.encrypted = phone.is_encrypting().ok();
            row.trusted = true;
            row.trust = "yes";
        }
        Err(failure) if failure.exit == Exit::PhoneRefused => row.trust = "locked",
        Err(_) => {}
    }
    row
}

fn print_table(rows: Vec<Row>, with_backups: bool, report: &Report) -> Result<()> {
    use Align::Left;
    let mut columns = vec![
        ("NAME", Left),
        ("MODEL", Left),
        ("IOS", Left),
        ("UDID", Left),
        ("BY", Left),
        ("TRUST", Left),
        ("ENCRYPTS", Left),
    ];
    columns.extend(with_backups.then_some(("LAST BACKUP", Left)));
    let mut table = Table::new(&columns);
    for row in rows {
        let encrypts = row.encrypted.map_or("", |encrypts| if encrypts { "yes" } else { "no" });
        let last = row.last_backup_time.map_or("never".to_owned(), local_time);
        let cells = [
            row.name.unwrap_or_default(),
            row.product_type.unwrap_or_default(),
            row.product_version.unwrap_or_default(),
            row.udid,
            row.connection.to_owned(),
            row.trust.to_owned(),
            encrypts.to_owned(),
        ];
        table.row(cells.into_iter().chain(with_backups.then_some(last)));
    }
    table.print(report)
}
