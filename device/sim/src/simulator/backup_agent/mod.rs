//! com.apple.mobilebackup2 as the phone runs it: the handshake, then one request after another, each of which the phone
//! drives to its end.

mod back_up;
mod host_manifest;
mod keybag;
mod link;
mod restore;

use std::io;
use std::time::{Duration, Instant};

use plist::{Dictionary, Value};

use super::connection::Connection;
use super::{Fault, Shared};
use crate::manifest::dictionary;
use link::{Failure, Link};

pub(crate) use keybag::Keybag;
pub use restore::RestoredFile;

/// MBErrorDomain codes that the phone gives.
mod code {
    pub(super) const GENERIC: u32 = 1;
    pub(super) const UPLOADS: u32 = 104;
    pub(super) const NO_SPACE: u32 = 105;
    pub(super) const BAD_BACKUP: u32 = 205;
    pub(super) const PASSWORD: u32 = 207;
    pub(super) const LOCKED: u32 = 208;
    pub(super) const FIND_MY: u32 = 211;
}

const PROTOCOL: f64 = 2.1;

/// Serves requests until the computer disconnects.
pub(crate) fn serve(shared: &Shared, connection: Connection, has_escrow: bool) -> io::Result<()> {
    let mut link = Link::new(shared, connection)?;
    link.exchange_versions()?;
    loop {
        let Some(request) = link.next_request()? else { return Ok(()) };
        let name = text(&request, "MessageName").to_owned();
        let outcome = match name.as_str() {
            "Hello" => {
                let versions = request.get("SupportedProtocolVersions").and_then(Value::as_array);
                let is_common = versions.is_some_and(|versions| versions.contains(&PROTOCOL.into()));
                link.respond(u32::from(!is_common), None, &[("ProtocolVersion", PROTOCOL.into())])?;
                continue;
            }
            "Backup" => authorize(&mut link, &request).and_then(|()| back_up::back_up(&mut link, &request)),
            "Restore" => restore::restore(&mut link, &request, has_escrow),
            "ChangePassword" => change_password(&mut link, &request),
            other => Err(Failure::error(code::GENERIC, format!("{other} is not supported (MBErrorDomain/1)"))),
        };
        match outcome {
            Ok(()) => match shared.fault() {
                Some(Fault::FinalError(code, text)) => link.respond(code, Some(&text), &[])?,
                _ => link.respond(0, None, &[])?,
            },
            Err(Failure::Error { code, text }) => link.respond(code, Some(&text), &[])?,
            Err(Failure::Io(error)) => return Err(error),
        }
        let options = request.get("Options").and_then(Value::as_dictionary);
        let stays = options.and_then(|options| options.get("RestoreShouldReboot")?.as_boolean()) == Some(false);
        if name == "Restore" && shared.state().restored.is_some() && !stays {
            link.drain();
            shared.detach();
            shared.sleep(shared.options.reboot);
            shared.attach();
            return Ok(());
        }
    }
}

fn text<'a>(dictionary: &'a Dictionary, key: &str) -> &'a str {
    dictionary.get(key).and_then(Value::as_string).unwrap_or_default()
}

/// The checks before a backup, and the passcode.
fn authorize(link: &mut Link, request: &Dictionary) -> Result<(), Failure> {
    let shared = link.shared;
    if text(request, "TargetIdentifier") != shared.udid {
        return Err(link.wrong(code::GENERIC, "TargetIdentifier is not this phone's"));
    }
    if !is_sync_locked(shared) {
        shared.complain("a backup without the sync lock");
    }
    let posted: &[_] = match shared.fault() {
        Some(Fault::NoSyncLock) => &["syncWillStart", "syncLockRequest"],
        _ => &["syncWillStart", "syncLockRequest", "syncDidStart"],
    };
    for name in posted {
        if !is_posted(shared, &format!("com.apple.itunes-mobdev.{name}")) {
            shared.complain(format!("a backup without {name}"));
        }
    }
    ask_passcode(shared)
}

/// Whether a computer holds the sync lock, if it can. One that the phone was unplugged from did.
fn is_sync_locked(shared: &Shared) -> bool {
    let is_locked = shared.afc().is_locked_for_sync();
    is_locked || shared.state().device_id.is_none() || shared.fault() == Some(Fault::NoSyncLock)
}

/// Whether a computer has posted this. Notifications come over a connection of their own, so the last of them may come
/// after the request that it was posted before.
fn is_posted(shared: &Shared, name: &str) -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        if shared.state().posted.iter().any(|posted| posted == name) {
            return true;
        }
        if !shared.state().can_post || Instant::now() > until {
            return false;
        }
        shared.sleep(Duration::from_millis(5));
    }
}

fn ask_passcode(shared: &Shared) -> Result<(), Failure> {
    if shared.is_locked() {
        return Err(Failure::error(code::LOCKED, "Device locked (MBErrorDomain/208)"));
    }
    shared.notify("com.apple.LocalAuthentication.ui.presented");
    shared.sleep(shared.options.passcode.unwrap_or(shared.options.patience));
    shared.notify("com.apple.LocalAuthentication.ui.dismissed");
    match shared.options.passcode {
        Some(_) => Ok(()),
        None => Err(Failure::error(code::LOCKED, "Device locked (MBErrorDomain/208)")),
    }
}

fn change_password(link: &mut Link, request: &Dictionary) -> Result<(), Failure> {
    let shared = link.shared;
    let word = |key: &str| request.get(key).and_then(Value::as_string).filter(|word| !word.is_empty());
    let (old, new) = (word("OldPassword"), word("NewPassword"));
    let is_right = match &shared.state().keybag {
        Some(keybag) => old.is_some_and(|old| keybag.is_password(old)),
        None => old.is_none() && new.is_some(),
    };
    if !is_right {
        return Err(Failure::error(code::PASSWORD, "Invalid password (MBErrorDomain/207)"));
    }
    ask_passcode(shared)?;
    let keybag = new.map(|new| Keybag::new(new, shared.options.rounds)).transpose()?;
    shared.state().keybag = keybag;
    shared.notify("com.apple.mobile.backup.domain_changed");
    Ok(())
}

fn xml_or_binary(bytes: &[u8]) -> Option<Dictionary> {
    plist::from_bytes(bytes).ok()
}

fn response(code: u32, text: Option<&str>, more: &[(&str, Value)]) -> Value {
    let mut response = dictionary([("MessageName", "Response".into()), ("ErrorCode", code.into())]);
    response.extend(text.map(|text| ("ErrorDescription".to_owned(), text.into())));
    response.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    Value::Array(vec!["DLMessageProcessMessage".into(), Value::Dictionary(response)])
}
