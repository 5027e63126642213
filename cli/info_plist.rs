//! Info.plist of a backup that is about to be taken: what the phone says of itself, its apps, and files of its media.

use std::{collections::BTreeMap, time::SystemTime};

use heirloom_device::{
    Error as DeviceError,
    mobilebackup2::info_plist::{App, IBOOKS_DATA, ITUNES_FILES, InfoPlist},
    pairing::new_uuid,
    services::{
        afc::Afc,
        installation_proxy::{self, InstallationProxy},
        springboard::{self, Springboard},
    },
};
use plist::{Dictionary, Value};

use crate::{
    failure::{Failure, Result},
    phone::Phone,
    report::Report,
};

const ITUNES_FOLDER: &str = "/iTunes_Control/iTunes";
/// The whole Info.plist is read back by phones and programs; what is longer than this does not belong there.
const FILE_MAX_LEN: usize = 8 << 20;

/// Makes Info.plist. What the phone does not tell is left out: only apps' icons and settings of iTunes depend on it.
pub fn make(phone: &mut Phone, report: &Report) -> Result<Vec<u8>> {
    let mut domain = |name: &str| {
        phone.domain(name).unwrap_or_else(|failure| {
            report.detail(format_args!("the phone does not tell its {name}: {}", failure.message));
            Dictionary::new()
        })
    };
    let (itunes, itunes_settings) = (domain("com.apple.mobile.iTunes"), domain("com.apple.iTunes"));
    let apps = apps(phone, report);
    let mut afc = phone.afc()?;
    let itunes_file = |&name: &&str| Some((name.to_owned(), file(&mut afc, &format!("{ITUNES_FOLDER}/{name}"))?));
    let itunes_files: BTreeMap<String, Vec<u8>> = ITUNES_FILES.iter().filter_map(itunes_file).collect();
    let info = InfoPlist {
        device: &phone.values,
        product_name: None,
        min_itunes_version: itunes.get("MinITunesVersion").and_then(Value::as_string),
        itunes_settings,
        itunes_files,
        ibooks_data: file(&mut afc, IBOOKS_DATA),
        apps,
        guid: random_guid()?,
        date: SystemTime::now(),
    };
    Ok(info.to_xml()?)
}

fn random_guid() -> Result<[u8; 16]> {
    let digits = new_uuid()?.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).map_err(|error| Failure::failed(format!("{digits}: {error}")))?;
    Ok(number.to_be_bytes())
}

/// The apps that the user installed, with the icons of those that a restore can bring back: those that the phone tells.
fn apps(phone: &mut Phone, report: &Report) -> Vec<App> {
    let mut apps = Vec::new();
    let mut keep = |app: Dictionary| apps.extend(App::from_browse(&app));
    let listed = phone.start(installation_proxy::NAME, false).and_then(|stream| {
        let wanted = ["CFBundleIdentifier", "ApplicationSINF", "iTunesMetadata"];
        InstallationProxy::new(stream).for_each_user_app(&wanted, &mut keep)
    });
    if let Err(error) = listed {
        report.detail(format_args!("the phone does not tell all of its apps: {error}"));
    }
    if let Err(error) = add_icons(phone, &mut apps) {
        report.detail(format_args!("the phone does not give all icons of its apps: {error}"));
    }
    apps
}

fn add_icons(phone: &mut Phone, apps: &mut [App]) -> heirloom_device::Result<()> {
    let mut springboard = Springboard::new(phone.start(springboard::NAME, false)?);
    for app in apps.iter_mut().filter(|app| app.sinf.is_some() && app.itunes_metadata.is_some()) {
        app.icon = match springboard.icon_png(&app.bundle_id) {
            Err(DeviceError::Service { .. }) => None,
            icon => Some(icon?),
        };
    }
    Ok(())
}

/// A file of the phone's media, if there is one.
fn file(afc: &mut Afc, path: &str) -> Option<Vec<u8>> {
    afc.read_file(path, FILE_MAX_LEN).ok()
}
