//! `pair`: makes a phone trust this computer.

use std::time::{Duration, Instant};

use heirloom_device::{
    Error as DeviceError,
    mux::{DeviceEntry, Mux},
    pair_record::SavedIn,
    pairing,
};

use crate::{
    args::Pair,
    failure::{Exit, Failure, Result},
    interrupt,
    phone::{self, Phone, front_door, pair_records},
    report::{Report, printable},
};

/// How long somebody may look for the phone and its passcode.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(args: &Pair, report: &Report) -> Result<Exit> {
    let mux = phone::muxer()?;
    let found = phone::choose_one(&mux, args.udid.as_ref())?;
    interrupt::catch();
    let known = if args.force { None } else { Phone::connect(&mux, &found.device).ok() };
    let is_known = known.is_some();
    let phone = match known {
        Some(phone) => phone,
        None => pair(&mux, &found.device, report)?,
    };
    if report.json {
        report.json(&serde_json::json!({
            "udid": phone.udid, "name": phone.text("DeviceName"), "outcome": if is_known { "known" } else { "paired" },
        }))?;
    } else {
        let trusts = if is_known { "trusts this computer already" } else { "trusts this computer now" };
        report.line(format_args!("{} {trusts}", phone.name()))?;
    }
    Ok(Exit::Ok)
}

/// Pairs, waiting for the person's answer on the phone, and proves the pairing by a session.
pub fn pair<'m>(mux: &'m dyn Mux, device: &DeviceEntry, report: &Report) -> Result<Phone<'m>> {
    let system_buid = match mux.read_buid() {
        Ok(Some(buid)) => buid,
        _ => pairing::new_uuid()?,
    };
    let until = Instant::now() + PATIENCE;
    let mut is_told = false;
    let mut keep_waiting = || {
        if !is_told {
            report.note("look at the phone: tap Trust, and enter its passcode");
            is_told = true;
        }
        !interrupt::requested() && Instant::now() < until
    };
    let host_name = host_name();
    let paired = front_door(mux, device)?.pair(&system_buid, host_name.as_deref(), &mut keep_waiting);
    interrupt::check()?;
    let record = paired.map_err(|error| match error {
        DeviceError::PasswordProtected => {
            Failure::from(error).hint("unlock the phone, leave it on its home screen, and run `heirloom pair` again")
        }
        error => error.into(),
    })?;
    match pair_records(mux).save(device, &record)? {
        SavedIn::Mux => report.detail("usbmuxd keeps the pair record, for all programs"),
        SavedIn::File(path) => {
            report.detail(format_args!("the pair record is in {}", printable(&path.to_string_lossy())))
        }
    }
    Phone::connect(mux, device)
}

/// What the phone may call this computer.
fn host_name() -> Option<String> {
    let variable = std::env::var(if cfg!(windows) { "COMPUTERNAME" } else { "HOSTNAME" }).ok();
    let name = variable.or_else(|| std::fs::read_to_string("/etc/hostname").ok())?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
