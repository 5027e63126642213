//! The small services: notifications, apps, icons, heartbeat. The larger ones have files of their own.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use plist::{Dictionary, Value};

use super::connection::{Arrival, Connection};
use super::{Fault, Shared, StartedService, afc, backup_agent, pairing};
use crate::manifest::dictionary;
use crate::phone::App;

/// The service to which notifications are posted.
pub(crate) const NOTIFICATIONS: &str = "com.apple.mobile.notification_proxy";

/// The backup service.
pub(crate) const BACKUP: &str = "com.apple.mobilebackup2";

/// All services.
pub(crate) const NAMES: [&str; 6] = [
    "com.apple.afc",
    "com.apple.mobile.heartbeat",
    "com.apple.mobile.installation_proxy",
    NOTIFICATIONS,
    BACKUP,
    "com.apple.springboardservices",
];

/// How long between a heartbeat's Marcos.
const BEAT: Duration = Duration::from_millis(500);

/// A PNG of one transparent pixel.
const ICON: &[u8] =
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\0\
\x01\0\0\x05\0\x01\r\n\x2d\xb4\0\0\0\0IEND\xaeB`\x82";

/// Makes the TLS handshake and is the service until the computer closes.
pub(crate) fn serve(shared: &Arc<Shared>, mut connection: Connection, service: &StartedService) -> io::Result<()> {
    let Some(host) = shared.state().paired.get(&service.host_id).cloned() else { return Ok(()) };
    if let Err(error) = connection.start_tls(pairing::tls(shared, &host)?) {
        shared.complain(format!("no TLS with {}: {error}", service.name));
        return Err(error);
    }
    match service.name.as_str() {
        "com.apple.afc" => afc::serve(shared, connection),
        "com.apple.mobile.heartbeat" => heartbeat(shared, connection),
        "com.apple.mobile.installation_proxy" => installation_proxy(shared, connection),
        NOTIFICATIONS => notification_proxy(shared, connection),
        "com.apple.springboardservices" => springboard(shared, connection),
        _ => backup_agent::serve(shared, connection, service.has_escrow),
    }
}

fn request(connection: &mut Connection) -> io::Result<Dictionary> {
    let request = connection.read_plist()?.into_dictionary();
    request.ok_or_else(|| io::Error::other("a request is not a dictionary"))
}

fn reply<const N: usize>(connection: &mut Connection, entries: [(&str, Value); N]) -> io::Result<()> {
    connection.write_plist(&Value::Dictionary(dictionary(entries)))
}

fn text<'a>(request: &'a Dictionary, key: &str) -> &'a str {
    request.get(key).and_then(Value::as_string).unwrap_or_default()
}

fn notification_proxy(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    let (sender, notifications) = channel();
    loop {
        for name in notifications.try_iter().collect::<Vec<String>>() {
            // A computer that does not listen any more may have posted before it closed; the end is found by reading.
            let _ = reply(&mut connection, [("Command", "RelayNotification".into()), ("Name", name.into())]);
        }
        match connection.wait(Duration::from_millis(20))? {
            Arrival::Data => {}
            Arrival::Nothing => continue,
            Arrival::End => return Ok(()),
        }
        let request = request(&mut connection)?;
        let name = text(&request, "Name").to_owned();
        match text(&request, "Command") {
            "ObserveNotification" => shared.state().observers.push((sender.clone(), vec![name])),
            "PostNotification" => shared.state().posted.push(name),
            "Shutdown" => return reply(&mut connection, [("Command", "ProxyDeath".into())]),
            other => shared.complain(format!("notification_proxy does not know {other:?}")),
        }
    }
}

fn heartbeat(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    loop {
        reply(&mut connection, [("Command", "Marco".into()), ("Interval", 10.into())])?;
        match connection.wait(shared.options.patience)? {
            Arrival::Data if text(&request(&mut connection)?, "Command") == "Polo" => {}
            Arrival::End => return Ok(()),
            _ => return reply(&mut connection, [("Command", "SleepyTime".into())]),
        }
        match connection.wait(BEAT)? {
            Arrival::Nothing => {}
            Arrival::End => return Ok(()),
            Arrival::Data => shared.complain("a heartbeat that was not asked for"),
        }
    }
}

fn installation_proxy(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    loop {
        let request = request(&mut connection)?;
        let apps = shared.phone().apps().to_vec();
        let options = request.get("ClientOptions").and_then(Value::as_dictionary).cloned().unwrap_or_default();
        let wanted = options.get("ReturnAttributes").and_then(Value::as_array).cloned();
        let describe = |app: &App| {
            let mut fields = app_fields(app);
            fields.retain(|key, _| {
                wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one.as_string() == Some(key)))
            });
            Value::Dictionary(fields)
        };
        match text(&request, "Command") {
            "Browse" => {
                if let Some(Fault::SlowApps(time)) = shared.fault() {
                    shared.sleep(time);
                }
                // Everything the owner installed is of the type User.
                let is_user = matches!(text(&options, "ApplicationType"), "" | "User" | "Any");
                let apps = if is_user { apps } else { Vec::new() };
                for (number, part) in apps.chunks(20).enumerate() {
                    let list = part.iter().map(describe).collect();
                    reply(
                        &mut connection,
                        [
                            ("Status", "BrowsingApplications".into()),
                            ("CurrentAmount", (part.len() as u64).into()),
                            ("CurrentIndex", (number as u64 * 20).into()),
                            ("Total", (apps.len() as u64).into()),
                            ("CurrentList", Value::Array(list)),
                        ],
                    )?;
                }
                reply(&mut connection, [("Status", "Complete".into())])?;
            }
            "Lookup" => {
                let found = apps.iter().map(|app| (app.bundle_id.clone(), describe(app))).collect();
                let result = Value::Dictionary(found);
                reply(&mut connection, [("Status", "Complete".into()), ("LookupResult", result)])?;
            }
            other => {
                let error = format!("no command {other:?}");
                reply(&mut connection, [("Error", "UnknownCommand".into()), ("ErrorDescription", error.into())])?;
            }
        }
    }
}

fn app_fields(app: &App) -> Dictionary {
    let metadata = dictionary([
        ("softwareVersionBundleId", app.bundle_id.as_str().into()),
        ("bundleShortVersionString", app.version.as_str().into()),
    ]);
    let mut bytes = Vec::new();
    // Cannot fail: it writes into memory.
    let _ = Value::Dictionary(metadata).to_writer_binary(&mut bytes);
    dictionary([
        ("CFBundleIdentifier", app.bundle_id.as_str().into()),
        ("CFBundleVersion", app.version.as_str().into()),
        ("CFBundleShortVersionString", app.version.as_str().into()),
        ("CFBundleDisplayName", app.bundle_id.rsplit('.').next().unwrap_or_default().into()),
        ("ApplicationType", "User".into()),
        ("ApplicationSINF", Value::Data(format!("sinf {}", app.bundle_id).into_bytes())),
        ("iTunesMetadata", Value::Data(bytes)),
    ])
}

fn springboard(shared: &Shared, mut connection: Connection) -> io::Result<()> {
    let mut icons = 0;
    loop {
        let request = request(&mut connection)?;
        match text(&request, "command") {
            "getIconPNGData" => {
                if shared.fault() == Some(Fault::SpringboardCloses(icons)) {
                    return Ok(());
                }
                icons += 1;
                let bundle_id = text(&request, "bundleId");
                if shared.phone().apps().iter().any(|app| app.bundle_id == bundle_id) {
                    reply(&mut connection, [("pngData", Value::Data(ICON.to_vec()))])?;
                } else {
                    reply(&mut connection, [("Error", "no such app".into())])?;
                }
            }
            "getIconState" => {
                let apps: Vec<_> = shared.phone().apps().iter().map(|app| app.bundle_id.as_str().into()).collect();
                connection.write_plist(&Value::Array(vec![Value::Array(apps)]))?;
            }
            _ => reply(&mut connection, [("Error", "unknown command".into())])?,
        }
    }
}
