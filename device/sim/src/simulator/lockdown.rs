//! lockdownd: what the phone tells of itself, pairing, sessions, and the way to the services. It answers in XML, and finds
//! fault with requests in anything else: no program that is proven on phones asks it otherwise.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use plist::{Dictionary, Value};

use super::connection::{Arrival, Connection, parse_plist};
use super::{Fault, Shared, StartedService, pairing, services};
use crate::manifest::dictionary;

/// lockdownd's port.
pub(crate) const PORT: u16 = 62078;

/// What is told to anyone.
const PUBLIC: [&str; 12] = [
    "ActivationState",
    "BuildVersion",
    "DeviceClass",
    "DeviceName",
    "DevicePublicKey",
    "HardwareModel",
    "PasswordProtected",
    "ProductName",
    "ProductType",
    "ProductVersion",
    "UniqueDeviceID",
    "WiFiAddress",
];

struct Session {
    id: String,
    host_id: String,
}

/// Answers requests until the computer closes, or is idle in a session.
pub(crate) fn serve(shared: &Arc<Shared>, mut connection: Connection) -> io::Result<()> {
    let mut session: Option<Session> = None;
    loop {
        // A computer that has nothing to ask is not waited for. Before a session it may be making its keys.
        if session.is_some() && connection.wait(shared.options.idle)? != Arrival::Data {
            return Ok(());
        }
        let message = connection.read_message()?;
        if message.starts_with(b"bplist") {
            shared.complain("a request to lockdownd is not in XML");
        }
        let Some(request) = parse_plist(message)?.into_dictionary() else {
            return Err(io::Error::other("a request is not a dictionary"));
        };
        let name = request.get("Request").and_then(Value::as_string).unwrap_or_default().to_owned();
        if loses_connection(shared, &name) {
            return Ok(());
        }
        let reply = match name.as_str() {
            "QueryType" => Ok(dictionary([("Type", "com.apple.mobile.lockdown".into())])),
            "GetValue" => get_value(shared, &request, session.is_some()),
            "SetValue" => set_value(shared, &request, session.is_some()),
            "Pair" if connection.is_by_network => Err("PairingProhibitedOverThisConnection"),
            "Pair" => pairing::pair(shared, &request),
            "ValidatePair" => pairing::validate(shared, &request).map(|()| Dictionary::new()),
            "Unpair" => unpair(shared, &request),
            "StartSession" if session.is_some() => Err("SessionActive"),
            "StartSession" => start_session(shared, &request),
            "StopSession" => stop_session(&request, session.as_ref()),
            "StartService" => start_service(shared, &request, session.as_ref()),
            "Goodbye" => Ok(Dictionary::new()),
            _ => Err("InvalidRequest"),
        };
        let is_ok = reply.is_ok();
        let mut reply = reply.unwrap_or_else(|error| dictionary([("Error", error.into())]));
        // Phones answer Unpair in this name: github.com/libimobiledevice/libimobiledevice, src/lockdown.c.
        let answers = if name == "Unpair" { "ValidatePair" } else { name.as_str() };
        reply.insert("Request".into(), answers.into());
        let session_id = reply.get("SessionID").and_then(Value::as_string).map(str::to_owned);
        connection.write_xml_plist(&Value::Dictionary(reply))?;
        match name.as_str() {
            "StartSession" if is_ok => {
                let host_id = request.get("HostID").and_then(Value::as_string).unwrap_or_default().to_owned();
                let Some(host) = shared.state().paired.get(&host_id).cloned() else { return Ok(()) };
                if is_old(shared) {
                    shared.complain("a session with a phone that knows no TLS of today");
                    return Ok(());
                }
                if shared.fault() == Some(Fault::ForgottenInTls) {
                    connection.wait(shared.options.patience)?;
                    return Ok(());
                }
                if let Err(error) = connection.start_tls(pairing::tls(shared, &host)?) {
                    shared.complain(format!("no TLS with lockdownd: {error}"));
                    return Err(error);
                }
                session = session_id.map(|id| Session { id, host_id });
            }
            "StopSession" if is_ok => {
                session = None;
                connection.stop_tls()?;
            }
            "Goodbye" => return Ok(()),
            _ => {}
        }
    }
}

/// Whether a fault strikes this request; then it is over.
fn loses_connection(shared: &Shared, request: &str) -> bool {
    let mut state = shared.state();
    let strikes = match (&mut state.fault, request) {
        (Some(Fault::SessionLost(left)), "StartService") if *left > 0 => {
            *left -= 1;
            false
        }
        (Some(Fault::SessionLost(_)), "StartService") | (Some(Fault::PairingLost), "Pair") => true,
        _ => false,
    };
    if strikes {
        state.fault = None;
    }
    strikes
}

/// Whether the phone is of iOS 9 or earlier.
fn is_old(shared: &Shared) -> bool {
    let version = shared.options.version.and_then(|version| version.split('.').next()?.parse().ok());
    version.is_some_and(|version: u32| version < 10)
}

fn start_session(shared: &Shared, request: &Dictionary) -> Result<Dictionary, &'static str> {
    let host_id = request.get("HostID").and_then(Value::as_string).ok_or("MissingHostID")?;
    let host = shared.state().paired.get(host_id).cloned().ok_or("InvalidHostID")?;
    if request.get("SystemBUID").and_then(Value::as_string) != Some(host.system_buid()) {
        shared.complain("StartSession with another SystemBUID than was paired");
        return Err("InvalidHostID");
    }
    let number = {
        let mut state = shared.state();
        state.next += 1;
        state.next
    };
    let id = crate::text::uuid(&mut crate::text::rng(number, "session", 0));
    Ok(dictionary([("SessionID", id.as_str().into()), ("EnableSessionSSL", true.into())]))
}

fn stop_session(request: &Dictionary, session: Option<&Session>) -> Result<Dictionary, &'static str> {
    let session = session.ok_or("SessionInactive")?;
    match request.get("SessionID").and_then(Value::as_string) {
        None => Err("MissingSessionID"),
        Some(id) if id == session.id => Ok(Dictionary::new()),
        Some(_) => Err("InvalidSessionID"),
    }
}

fn start_service(shared: &Shared, request: &Dictionary, session: Option<&Session>) -> Result<Dictionary, &'static str> {
    let session = session.ok_or("SessionInactive")?;
    let name = request.get("Service").and_then(Value::as_string).ok_or("MissingService")?;
    if !services::NAMES.contains(&name) {
        return Err("InvalidService");
    }
    let has_escrow = match request.get("EscrowBag") {
        None => false,
        Some(bag) => {
            let host = shared.state().paired.get(&session.host_id).cloned().ok_or("InvalidHostID")?;
            if !bag.as_data().is_some_and(|bag| host.has_escrow_bag(bag)) {
                return Err("EscrowLocked");
            }
            true
        }
    };
    if name == services::BACKUP && !has_escrow {
        shared.complain("mobilebackup2 was started without the escrow bag");
        if shared.is_locked() {
            return Err("PasswordProtected");
        }
    }
    let mut state = shared.state();
    if let Some(Fault::ServiceLimit(left)) = &mut state.fault
        && *left > 0
    {
        *left -= 1;
        return Err("ServiceLimit");
    }
    state.can_post |= name == services::NOTIFICATIONS;
    state.next += 1;
    let port = 49_152 + (state.next % 13_000) as u16;
    let service = StartedService { name: name.to_owned(), host_id: session.host_id.clone(), has_escrow };
    state.services.insert(port, service);
    Ok(dictionary([("Service", name.into()), ("Port", port.into()), ("EnableServiceSSL", true.into())]))
}

fn unpair(shared: &Shared, request: &Dictionary) -> Result<Dictionary, &'static str> {
    pairing::validate(shared, request)?;
    let record = request.get("PairRecord").and_then(Value::as_dictionary).ok_or("MissingPairRecord")?;
    let id = record.get("HostID").and_then(Value::as_string).ok_or("MissingHostID")?;
    shared.state().paired.remove(id);
    Ok(Dictionary::new())
}

fn get_value(shared: &Shared, request: &Dictionary, in_session: bool) -> Result<Dictionary, &'static str> {
    let domain = request.get("Domain").and_then(Value::as_string);
    let mut values = values(shared, domain);
    let key = request.get("Key").and_then(Value::as_string);
    if !in_session {
        if domain.is_some() {
            return Err("GetProhibited");
        }
        values.retain(|key, _| PUBLIC.contains(&key.as_str()));
    }
    for ((of, key), value) in &shared.state().set_values {
        if domain.unwrap_or_default() == of {
            values.insert(key.clone(), value.clone());
        }
    }
    let mut reply = Dictionary::new();
    let value = match key {
        None => Value::Dictionary(values),
        Some(key) => {
            reply.insert("Key".into(), key.into());
            match values.remove(key) {
                Some(value) => value,
                None if !in_session && !PUBLIC.contains(&key) => return Err("GetProhibited"),
                None => return Err("MissingValue"),
            }
        }
    };
    reply.extend(domain.map(|domain| ("Domain".to_owned(), domain.into())));
    reply.insert("Value".into(), value);
    Ok(reply)
}

fn set_value(shared: &Shared, request: &Dictionary, in_session: bool) -> Result<Dictionary, &'static str> {
    if !in_session {
        return Err("SetProhibited");
    }
    let text = |key: &str| request.get(key).and_then(Value::as_string).map(str::to_owned);
    let (domain, key) = (text("Domain").unwrap_or_default(), text("Key").ok_or("MissingKey")?);
    if domain.is_empty() && key != "DeviceName" {
        return Err("SetProhibited");
    }
    let value = request.get("Value").ok_or("MissingValue")?.clone();
    shared.state().set_values.insert((domain, key), value);
    Ok(Dictionary::new())
}

/// All values of a domain; none has no name.
fn values(shared: &Shared, domain: Option<&str>) -> Dictionary {
    let used = shared.phone().total_bytes();
    match domain {
        None => {
            let mut values = shared.values.clone();
            let seconds = shared.phone().now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
            values.extend(dictionary([
                ("ActivationState", "Activated".into()),
                ("CPUArchitecture", "arm64e".into()),
                ("DevicePublicKey", Value::Data(shared.key.public_pem())),
                ("HardwareModel", "D53gAP".into()),
                ("PasswordProtected", shared.is_locked().into()),
                ("TimeIntervalSince1970", (seconds as f64).into()),
                ("TimeZone", "Europe/Berlin".into()),
                ("WiFiAddress", wifi_address(&shared.udid).into()),
            ]));
            values
        }
        Some("com.apple.mobile.backup") => dictionary([
            ("WillEncrypt", shared.state().keybag.is_some().into()),
            ("Version", "2.4".into()),
            ("RequiresEncryption", false.into()),
        ]),
        Some("com.apple.disk_usage" | "com.apple.disk_usage.factory") => {
            let capacity = 128_000_000_000u64.max(used * 2);
            dictionary([
                ("TotalDiskCapacity", capacity.into()),
                ("TotalSystemCapacity", 13_000_000_000u64.into()),
                ("TotalDataCapacity", (capacity - 13_000_000_000).into()),
                ("TotalDataAvailable", (capacity - 13_000_000_000 - used).into()),
                ("AmountDataAvailable", (capacity - 13_000_000_000 - used).into()),
            ])
        }
        Some("com.apple.mobile.iTunes") => {
            dictionary([("MinITunesVersion", "12.12".into()), ("ArtworkFormats", Value::Array(Vec::new()))])
        }
        Some("com.apple.iTunes") => dictionary([("SyncDataClasses", Value::Array(Vec::new()))]),
        Some("com.apple.mobile.battery") => dictionary([
            ("BatteryCurrentCapacity", 83.into()),
            ("BatteryIsCharging", true.into()),
            ("ExternalConnected", true.into()),
            ("FullyCharged", false.into()),
            ("HasBattery", true.into()),
        ]),
        Some("com.apple.fmip") => dictionary([("IsAssociated", shared.options.find_my.into())]),
        Some("com.apple.mobile.wireless_lockdown") => dictionary([("EnableWifiConnections", false.into())]),
        Some(_) => Dictionary::new(),
    }
}

/// A MAC address of the phone's own.
fn wifi_address(udid: &str) -> String {
    let digits: Vec<_> = udid.bytes().rev().take(10).map(char::from).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>().to_lowercase());
    std::iter::once("a4".to_owned()).chain(pairs).collect::<Vec<_>>().join(":")
}
