//! A simulated phone, paired with this computer, and one-call operations on it.

use std::{
    collections::BTreeMap,
    fmt,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant, SystemTime},
};

use heirloom_device::{
    Error, Result,
    lockdown::{Lockdown, Session},
    mobilebackup2::{
        BackupRequest, BackupSession, Client, Control, Event, HostDir, HostPath, Preset, RestoreRequest, Summary,
        Timeouts, Warning,
        info_plist::{App, InfoPlist, restore_applications},
    },
    mux::{DeviceEntry, Mux, SocketAddress, Usbmuxd},
    pair_record::PairRecord,
    services::{
        afc::{self, Afc},
        installation_proxy::{self, InstallationProxy},
        notification_proxy::{self, NotificationProxy},
        sync_files::SyncFiles,
    },
};
use heirloom_sim::{Options, Phone, Simulator};
use plist::{Dictionary, Value};

pub const LABEL: &str = "test";
const MOBILEBACKUP2: &str = "com.apple.mobilebackup2";

const SYNC: [&str; 4] = ["syncWillStart", "syncLockRequest", "syncDidStart", "syncDidFinish"];

pub fn phone(seed: u64) -> Phone {
    Phone::new(seed, 3_000_000).unwrap()
}

pub fn muxer(simulator: &Simulator) -> Usbmuxd {
    Usbmuxd::new(SocketAddress::parse(&simulator.address()).unwrap()).with_timeout(Duration::from_secs(20))
}

/// The phone, what this computer has of it, and how long it may be silent.
pub struct Connected {
    pub simulator: Simulator,
    pub mux: Usbmuxd,
    pub record: PairRecord,
    pub timeouts: Timeouts,
    pub info_plist: Vec<u8>,
}

/// How an operation ended, and what it told.
pub struct Outcome {
    pub result: Result<Summary>,
    pub warnings: Vec<Warning>,
    /// The passcode sheet: shown, hidden.
    pub prompts: Vec<bool>,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first: Vec<_> = self.warnings.iter().take(3).collect();
        write!(f, "{:?}, {} warnings, first {first:?}", self.result, self.warnings.len())
    }
}

impl Outcome {
    pub fn well(self) -> Summary {
        assert!(self.warnings.is_empty(), "{self:?}");
        self.result.unwrap()
    }
}

impl Connected {
    pub fn new(options: Options) -> Self {
        let simulator = Simulator::start(phone(7), options).unwrap();
        let mux = muxer(&simulator);
        let buid = mux.read_buid().unwrap().unwrap();
        let device = mux.devices().unwrap().remove(0);
        let record = Lockdown::connect(&mux, &device, LABEL).unwrap().pair(&buid, None, &mut || false).unwrap();
        let timeouts = Timeouts { handshake: Duration::from_secs(20), operation: Duration::from_secs(20) };
        let mut phone = Connected { simulator, mux, record, timeouts, info_plist: Vec::new() };
        phone.info_plist = phone.make_info_plist().unwrap();
        phone
    }

    pub fn device(&self) -> DeviceEntry {
        self.mux.devices().unwrap().remove(0)
    }

    pub fn session(&self) -> Result<Session<'_>> {
        Lockdown::connect(&self.mux, &self.device(), LABEL)?.start_session(&self.record)
    }

    pub fn will_encrypt(&self) -> bool {
        let value = self.session().unwrap().value(Some("com.apple.mobile.backup"), Some("WillEncrypt")).unwrap();
        value.unwrap().as_boolean().unwrap()
    }

    pub fn back_up(&self, host: &mut dyn HostDir, full: bool) -> Outcome {
        self.operate(|session, control| {
            let info_plist = &self.info_plist;
            session.back_up(host, &BackupRequest { udid: &self.record.udid, full, info_plist }, control)
        })
    }

    pub fn restore(&self, host: &mut dyn HostDir, password: Option<&str>) -> Outcome {
        let before = self.device();
        let outcome = self.operate(|session, control| {
            let mut info_plist = Vec::new();
            host.read_file(&HostPath::new("Info.plist").unwrap(), &mut info_plist).map_err(Error::Host)?;
            let applications = restore_applications(&info_plist)?;
            let (target_udid, source_udid) = (self.record.udid.as_str(), self.record.udid.as_str());
            let request = RestoreRequest { target_udid, source_udid, options: Preset::Migrate.into(), password };
            session.restore(host, &request, applications.as_deref(), control)
        });
        if outcome.result.is_ok() {
            // It restarts, and comes back as another connection.
            eventually(|| self.mux.devices().unwrap().first().is_some_and(|now| now.device_id != before.device_id));
        }
        outcome
    }

    pub fn change_password(&self, old: Option<&str>, new: Option<&str>) -> Result<()> {
        let outcome = self.controlled(|control| {
            let mut client = Client::connect(self.session()?.start_service(MOBILEBACKUP2, true)?, control)?;
            client.change_password(&self.record.udid, old, new, control)?;
            client.disconnect();
            Ok(Summary::default())
        });
        outcome.result.map(drop)
    }

    /// Does `work` within a session for backups, and sees that the phone is let go in good order however it ends.
    fn operate(&self, work: impl FnOnce(BackupSession<'_>, &mut Control<'_>) -> Result<Summary>) -> Outcome {
        let posted = self.simulator.posted().len();
        let mut has_begun = false;
        let outcome = self.controlled(|control| {
            let mut session = self.session()?;
            let mut proxy = NotificationProxy::new(session.start_service(notification_proxy::NAME, false)?);
            let mut files = SyncFiles::new(Afc::new(session.start_service(afc::NAME, false)?));
            let connect = || session.start_service(MOBILEBACKUP2, true);
            let session = BackupSession::begin(&mut proxy, &mut files, connect, control)?;
            has_begun = true;
            assert!(self.simulator.is_sync_locked());
            work(session, control)
        });
        eventually(|| !self.simulator.is_sync_locked());
        let expected: Vec<_> = SYNC.map(|name| format!("com.apple.itunes-mobdev.{name}")).into();
        eventually(|| self.simulator.posted()[posted..] == expected[..if has_begun { 4 } else { 0 }]);
        outcome
    }

    fn controlled(&self, work: impl FnOnce(&mut Control<'_>) -> Result<Summary>) -> Outcome {
        let (mut warnings, mut prompts) = (Vec::new(), Vec::new());
        let mut events = |event: Event<'_>| match event {
            Event::Warning(warning) => warnings.push(warning),
            Event::PasscodePrompt(shown) => prompts.push(shown),
            Event::Phase(_) | Event::Progress(_) => {}
        };
        let (cancel, timeouts) = (AtomicBool::new(false), self.timeouts);
        let result = work(&mut Control { cancel: &cancel, events: &mut events, notifications: &mut || None, timeouts });
        Outcome { result, warnings, prompts }
    }

    fn make_info_plist(&self) -> Result<Vec<u8>> {
        let mut session = self.session()?;
        let device = session.value(None, None)?.and_then(Value::into_dictionary).unwrap();
        let attributes = ["CFBundleIdentifier", "ApplicationSINF", "iTunesMetadata"];
        let mut proxy = InstallationProxy::new(session.start_service(installation_proxy::NAME, false)?);
        let apps = proxy.browse_user_apps(&attributes)?.iter().filter_map(App::from_browse).collect();
        InfoPlist {
            device: &device,
            product_name: None,
            min_itunes_version: None,
            itunes_settings: Dictionary::new(),
            itunes_files: BTreeMap::new(),
            ibooks_data: None,
            apps,
            guid: [7; 16],
            date: SystemTime::now(),
        }
        .to_xml()
    }

    /// Sees that the last restore brought back every file of the phone, and none that it does not have.
    pub fn assert_restored(&self) {
        let restored = self.simulator.restored().expect("nothing was restored");
        let phone = self.simulator.phone();
        assert!(phone.files().map(|(location, _)| location).eq(restored.keys()));
        for (location, file) in phone.files() {
            assert!(restored[location].is_same(file).unwrap(), "{location}");
        }
    }
}

/// Waits for what the phone's threads do by themselves.
pub fn eventually(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "it does not come about");
        thread::sleep(Duration::from_millis(5));
    }
}
