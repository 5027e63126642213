//! The way to a phone: which are in reach, the session with one of them, and the services behind it.

use std::{
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use heirloom_device::{
    Error as DeviceError, Result as DeviceResult, Stream,
    lockdown::{Lockdown, Session},
    mux::{self, Connection, DeviceEntry, Mux, SocketAddress, Usbmuxd},
    pair_record::{PairRecord, PairRecords},
    services::{
        afc::{self, Afc},
        heartbeat::{self, Heartbeat},
        notification_proxy::{self, NotificationProxy},
        sync_files::SyncFiles,
    },
};
use plist::{Dictionary, Value};

use crate::{
    access,
    failure::{Exit, Failure, Result},
    identity::usual_case,
    report::printable,
    snapshot_spec::is_device,
};

/// What this program calls itself towards phones.
const LABEL: &str = "heirloom";
const MOBILEBACKUP2: &str = "com.apple.mobilebackup2";
const BACKUP_DOMAIN: &str = "com.apple.mobile.backup";
/// How often a service is asked for that the phone has no free instance of.
const ATTEMPTS: u32 = 5;
const ATTEMPT_EVERY: Duration = Duration::from_secs(1);

/// The muxer of this system, or the one that `USBMUXD_SOCKET_ADDRESS` names.
pub fn muxer() -> Result<Usbmuxd> {
    match env::var("USBMUXD_SOCKET_ADDRESS") {
        Ok(address) if !address.is_empty() => muxer_at(&address),
        _ => Ok(Usbmuxd::new(SocketAddress::default())),
    }
}

/// The muxer at an address in the form of that variable.
pub fn muxer_at(address: &str) -> Result<Usbmuxd> {
    Ok(Usbmuxd::new(SocketAddress::parse(address)?))
}

/// Where pair records are: with the muxer, in the folders of other programs, and in our own.
pub fn pair_records(mux: &dyn Mux) -> PairRecords<'_> {
    let system = if cfg!(windows) {
        env::var_os("ALLUSERSPROFILE").map(|folder| PathBuf::from(folder).join("Apple").join("Lockdown"))
    } else {
        Some(PathBuf::from(if cfg!(target_os = "macos") { "/var/db/lockdown" } else { "/var/lib/lockdown" }))
    };
    let own_folder = access::data_dir().unwrap_or_else(|| env::temp_dir().join("heirloom")).join("pair-records");
    PairRecords { mux, folders: system.into_iter().collect(), own_folder }
}

/// A phone in reach, and what it tells everybody.
pub struct InReach {
    pub device: DeviceEntry,
    pub name: Option<String>,
    /// Its version, if heirloom does not speak to phones of that.
    pub too_old: Option<String>,
}

impl InReach {
    fn meet(mux: &dyn Mux, device: DeviceEntry) -> InReach {
        let text = |lockdown: &mut Lockdown, key| lockdown.value(None, Some(key)).ok().flatten()?.into_string();
        let mut door = Lockdown::connect(mux, &device, LABEL).ok();
        let name = door.as_mut().and_then(|door| text(door, "DeviceName"));
        let too_old = door.as_mut().and_then(|door| door.too_old().ok()?);
        InReach { device, name, too_old }
    }

    fn is(&self, wanted: &str) -> bool {
        mux::canonical_udid(wanted).is_some_and(|udid| udid.eq_ignore_ascii_case(&self.device.udid))
            || is_device(wanted, &self.device.udid, self.name.as_deref())
    }

    /// The device as a person knows it.
    pub fn title(&self) -> String {
        match &self.name {
            Some(name) => format!("{} ({})", printable(name), self.device.udid),
            None => self.device.udid.clone(),
        }
    }
}

/// All phones in reach, each once.
pub fn in_reach(mux: &dyn Mux) -> Result<Vec<InReach>> {
    Ok(mux::once_each(mux.devices()?).into_iter().map(|device| InReach::meet(mux, device)).collect())
}

/// The phones that are meant: those of these UDIDs or names, or else all.
pub fn choose(mux: &dyn Mux, wanted: &[String]) -> Result<Vec<InReach>> {
    let mut found = in_reach(mux)?;
    if found.is_empty() {
        return Err(DeviceError::NoDevice { udid: wanted.first().cloned() }.into());
    }
    if let Some(absent) = wanted.iter().find(|wanted| !found.iter().any(|phone| phone.is(wanted))) {
        let there = found.iter().map(InReach::title).collect::<Vec<_>>().join(", ");
        return Err(Failure::from(DeviceError::NoDevice { udid: Some(absent.clone()) })
            .hint(format!("in reach: {there}; connect the phone with its cable and unlock it")));
    }
    found.retain(|phone| wanted.is_empty() || wanted.iter().any(|wanted| phone.is(wanted)));
    Ok(found)
}

/// The one phone that is meant.
pub fn choose_one(mux: &dyn Mux, wanted: Option<&String>) -> Result<InReach> {
    let mut found = choose(mux, wanted.map_or(&[], std::slice::from_ref))?;
    if found.len() > 1 {
        let all = found.iter().map(InReach::title).collect::<Vec<_>>().join(", ");
        return Err(Failure::new(Exit::Usage, format!("several phones are in reach: {all}"))
            .hint("say which one with --udid UDID, or by its name"));
    }
    found.pop().ok_or_else(|| DeviceError::NoDevice { udid: wanted.cloned() }.into())
}

/// A connection to lockdownd of a phone, before a session.
pub fn front_door<'m>(mux: &'m dyn Mux, device: &DeviceEntry) -> Result<Lockdown<'m>> {
    Ok(Lockdown::connect(mux, device, LABEL)?)
}

/// A phone that trusts this computer.
///
/// lockdownd ends a session in which nothing is asked for ten seconds. So none is kept while a person is asked, or a
/// service works: each question has a session of its own.
pub struct Phone<'m> {
    mux: &'m dyn Mux,
    device: DeviceEntry,
    record: PairRecord,
    /// As it calls itself.
    pub udid: String,
    /// All values of lockdown's global domain.
    pub values: Dictionary,
}

impl<'m> Phone<'m> {
    /// Meets the phone by the first of its pair records that it knows.
    pub fn connect(mux: &'m dyn Mux, device: &DeviceEntry) -> Result<Phone<'m>> {
        let mut refusal = None;
        for record in pair_records(mux).all(&device.udid)? {
            match Phone::connect_by(mux, device, record) {
                Err(error) if is_about_pairing(&error) => drop(refusal.get_or_insert(error)),
                met => return Ok(met?),
            }
        }
        Err(refusal.unwrap_or_else(|| DeviceError::NotPaired { udid: device.udid.clone() }).into())
    }

    fn connect_by(mux: &'m dyn Mux, device: &DeviceEntry, record: PairRecord) -> DeviceResult<Phone<'m>> {
        let (udid, device) = (device.udid.clone(), device.clone());
        let mut phone = Phone { mux, device, record, udid, values: Dictionary::new() };
        phone.values = phone.value(None, None)?.and_then(Value::into_dictionary).unwrap_or_default();
        // What becomes the name of a folder is either the muxer's, which is safe, or the same in another case.
        if let Some(own) = phone.text("UniqueDeviceID").filter(|own| own.eq_ignore_ascii_case(&phone.udid)) {
            phone.udid = own.to_owned();
        }
        Ok(phone)
    }

    /// Asks within a new session, and once more within another if the phone has ended the first meanwhile.
    fn ask<T>(&self, question: impl Fn(&mut Session<'m>) -> DeviceResult<T>) -> DeviceResult<T> {
        let mut session = self.begin_session()?;
        let mut answer = question(&mut session);
        if answer.as_ref().is_err_and(is_session_gone) {
            session = self.begin_session()?;
            answer = question(&mut session);
        }
        if answer.is_ok() {
            // How the session ends is of no matter to what was asked.
            let _ = session.stop();
        }
        answer
    }

    fn begin_session(&self) -> DeviceResult<Session<'m>> {
        Lockdown::connect(self.mux, &self.device, LABEL)?.start_session(&self.record)
    }

    fn value(&self, domain: Option<&str>, key: Option<&str>) -> DeviceResult<Option<Value>> {
        self.ask(|session| session.value(domain, key))
    }

    /// What the repository knows it by.
    pub fn series(&self) -> String {
        usual_case(&self.udid)
    }

    /// A text of lockdown's global domain.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).and_then(Value::as_string)
    }

    /// What its owner calls it, safe to print.
    pub fn name(&self) -> String {
        printable(self.text("DeviceName").unwrap_or(&self.udid))
    }

    /// Values of another domain of lockdown.
    pub fn domain(&mut self, domain: &str) -> Result<Dictionary> {
        Ok(self.value(Some(domain), None)?.and_then(Value::into_dictionary).unwrap_or_default())
    }

    /// Whether it encrypts its backups.
    pub fn is_encrypting(&mut self) -> Result<bool> {
        let value = self.value(Some(BACKUP_DOMAIN), Some("WillEncrypt"))?;
        Ok(value.and_then(|value| value.as_boolean()).unwrap_or(false))
    }

    /// Starts a service, and waits a little for a free instance of it.
    pub fn start(&mut self, name: &str, escrow: bool) -> DeviceResult<Box<dyn Stream>> {
        let start = || self.ask(|session| session.start_service(name, escrow));
        for _ in 1..ATTEMPTS {
            match start() {
                Err(DeviceError::ServiceLimit { .. }) => thread::sleep(ATTEMPT_EVERY),
                started => return started,
            }
        }
        start()
    }

    pub fn notifications(&mut self) -> Result<NotificationProxy> {
        Ok(NotificationProxy::new(self.start(notification_proxy::NAME, false)?))
    }

    pub fn afc(&mut self) -> Result<Afc> {
        Ok(Afc::new(self.start(afc::NAME, false)?))
    }

    pub fn sync_files(&mut self) -> Result<SyncFiles> {
        Ok(SyncFiles::new(self.afc()?))
    }

    pub fn mobilebackup2(&mut self) -> DeviceResult<Box<dyn Stream>> {
        self.start(MOBILEBACKUP2, true)
    }

    /// Answers the heartbeats of a phone on a network, which leaves otherwise, until the value is dropped.
    pub fn stay_in_reach(&mut self) -> Result<Option<Staying>> {
        if self.device.connection == Connection::Usb {
            return Ok(None);
        }
        let heartbeat = Heartbeat::new(self.start(heartbeat::NAME, false)?);
        let stay = Arc::new(AtomicBool::new(true));
        let staying = Staying(stay.clone());
        // If the heartbeat ends, so does the backup's connection, which tells it better.
        thread::spawn(move || drop(heartbeat.run(&mut || stay.load(Ordering::Relaxed))));
        Ok(Some(staying))
    }
}

/// Whether the phone has ended the session in which it was asked.
fn is_session_gone(error: &DeviceError) -> bool {
    match error {
        // A phone that has forgotten this computer ends the next one as well.
        DeviceError::Disconnected | DeviceError::Forgotten => true,
        DeviceError::Lockdown { code, .. } | DeviceError::Service { code, .. } => {
            matches!(code.as_str(), "SessionInactive" | "InvalidSessionID")
        }
        _ => false,
    }
}

/// Whether another pair record might do.
fn is_about_pairing(error: &DeviceError) -> bool {
    use DeviceError::*;
    matches!(error, InvalidHostId | Forgotten | WrongCertificate | Tls(_) | PairRecord { .. })
}

/// While it lives, heartbeats are answered.
pub struct Staying(Arc<AtomicBool>);

impl Drop for Staying {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}
