//! Phones that are not there, are taken away, do not trust this computer any more, or are several.

use heirloom_device::mux::{Mux, SocketAddress, Usbmuxd};
use heirloom_sim::{After, Fault, Options, Phone, Simulator, Trust};
use serde_json::{Value, json};

use super::{NO_DEVICE, NOT_TRUSTED, REFUSED, USAGE};
use crate::support::{
    phone::{Attached, assert_restored, assert_whole, eventually},
    program::{Home, Said, exit_of, write_at},
};

const COMMANDS: [&[&str]; 5] =
    [&["pair"], &["backup"], &["restore", "latest", "--yes"], &["encryption", "status"], &["encryption", "off"]];

#[test]
fn without_usbmuxd_there_are_no_phones() {
    let home = Home::new();
    let somewhere = home.path("no-socket").to_str().unwrap().to_owned();
    for address in ["127.0.0.1:1", &format!("UNIX:{somewhere}")] {
        let variables = [("USBMUXD_SOCKET_ADDRESS", address)];
        for args in COMMANDS.iter().chain(&[&["devices"][..]]) {
            home.run_with(&variables, args).assert_failed(NO_DEVICE, &["no usbmuxd", "hint: "]);
        }
    }
    let said = home.run_with(&[("USBMUXD_SOCKET_ADDRESS", "nonsense")], &["devices"]);
    said.assert_failed(USAGE, &["\"nonsense\"", "USBMUXD_SOCKET_ADDRESS"]);
}

#[test]
fn a_phone_that_is_not_there_is_named() {
    let attached = Attached::paired();
    for wanted in ["00008030-001A2B3C4D5E6F70", "Nobody’s iPhone"] {
        for args in COMMANDS {
            let words = [wanted, attached.phone.udid(), "hint: "];
            attached.fails(&[args, &["--udid", wanted]].concat(), NO_DEVICE, &words);
        }
    }
    attached.phone.detach();
    for args in COMMANDS {
        attached.fails(args, NO_DEVICE, &["no phone is connected"]);
    }
    assert_eq!(attached.json(&["devices"]), json!([]));
    assert_eq!(attached.run(&["devices"]).exit, NO_DEVICE);
    attached.phone.attach();
    let name = attached.phone.phone().name().to_uppercase().replace('’', "'");
    for wanted in [&attached.phone.udid().to_lowercase(), &attached.phone.udid().replace('-', ""), &name] {
        attached.back_up(&["--udid", wanted]);
    }
    attached.assert_left_well();
}

#[test]
fn a_phone_that_is_unplugged_may_be_plugged_in_again() {
    let attached = Attached::paired();
    for bytes in [1, 1_000_000, 4_000_000] {
        let before = attached.phone.traffic().bytes_sent;
        attached.phone.set_fault(Some(Fault::Stall(After::Bytes(bytes))));
        let child = attached.command(&["backup"]).stderr(std::process::Stdio::null()).spawn().unwrap();
        let came = || attached.phone.traffic().bytes_sent - before + (128 << 10) >= bytes;
        assert!(eventually(|| came() && attached.phone.is_sync_locked()));
        attached.phone.detach();
        assert_eq!(exit_of(child), NO_DEVICE, "{bytes}");
        attached.phone.set_fault(None);
        assert_eq!(attached.snapshots().len(), 0);
        attached.phone.attach();
        assert!(eventually(|| !attached.phone.is_sync_locked()));
    }
    let next = attached.ok(&["backup"]);
    assert!(next.stderr.contains("an earlier backup was cut off"), "{next:?}");
    assert_whole(&attached.home.exported("latest"), &attached.phone.phone());
    assert_eq!(attached.phone.complaints(), Vec::<String>::new());
}

#[test]
fn a_phone_that_has_forgotten_this_computer_is_paired_again() {
    let attached = Attached::paired();
    attached.back_up(&[]);
    attached.phone.forget_pairings();
    for args in COMMANDS.iter().filter(|args| args[0] != "pair") {
        attached.fails(args, NOT_TRUSTED, &["does not know", "`heirloom pair`"]);
    }
    assert_eq!(attached.json(&["devices"])[0]["trusted"], false);
    assert_eq!(attached.json(&["pair"])["outcome"], "paired");
    attached.back_up(&[]);
    attached.assert_left_well();
}

#[test]
fn a_phone_that_closes_in_tls_is_paired_again() {
    let attached = Attached::paired();
    attached.phone.set_fault(Some(Fault::ForgottenInTls));
    for args in COMMANDS.iter().filter(|args| args[0] != "pair") {
        attached.fails(args, NOT_TRUSTED, &["forgotten this computer", "`heirloom pair`"]);
    }
    assert_eq!(attached.json(&["devices"])[0]["trusted"], false);
    attached.phone.set_fault(None);
    attached.assert_left_well();
}

#[test]
fn stale_pair_record_is_passed_over_for_the_next() {
    let attached = Attached::paired();
    let mux = Usbmuxd::new(SocketAddress::parse(&attached.phone.address()).unwrap());
    let device = mux.devices().unwrap().remove(0);
    let known = mux.read_pair_record(&device.udid).unwrap().unwrap();
    write_at(&attached.home.path(&format!(".local/share/heirloom/pair-records/{}.plist", device.udid)), &known);
    // Of another host, and of a phone that was erased since.
    for (key, from) in [("HostID", "SystemBUID"), ("DeviceCertificate", "HostCertificate")] {
        let mut stale: plist::Dictionary = plist::from_bytes(&known).unwrap();
        let other = stale.get(from).unwrap().clone();
        stale.insert(key.into(), other);
        let mut xml = Vec::new();
        plist::Value::Dictionary(stale).to_writer_xml(&mut xml).unwrap();
        mux.save_pair_record(&device, &xml).unwrap();
        attached.back_up(&[]);
        assert_eq!(attached.json(&["devices"])[0]["trusted"], true, "{key}");
    }
    attached.assert_released();
}

#[test]
fn a_phone_of_ios_9_is_told_of() {
    let attached = Attached::stranger(Options { version: Some("9.3.5"), ..Options::default() });
    attached.fails(&["pair"], REFUSED, &["iOS 9.3.5", "iOS 10 and later", "heirloom import"]);
    let row = &attached.json(&["devices"])[0];
    assert_eq!((&row["product_version"], &row["trusted"]), (&json!("9.3.5"), &json!(false)));
    let shown = attached.ok(&["devices"]).stdout;
    assert!(shown.contains("too old") && shown.contains("9.3.5"), "{shown}");
    attached.assert_left_well();
}

#[test]
fn a_pairing_that_usbmuxd_made_is_used() {
    let attached = Attached::stranger(Options { trust: Trust::ByMuxer, ..Options::default() });
    assert_eq!(attached.json(&["pair"])["outcome"], "paired");
    assert_eq!(attached.json(&["pair"])["outcome"], "known");
    attached.back_up(&[]);
    attached.assert_left_well();
}

#[test]
fn a_phone_by_cable_and_wifi_is_one_phone() {
    let attached = Attached::paired_with(Options { network: true, ..Options::default() });
    let connections = || {
        let rows = attached.json(&["devices"]);
        rows.as_array().unwrap().iter().map(|row| row["connection"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(connections(), ["usb"]);
    attached.back_up(&[]);
    attached.phone.unplug();
    assert_eq!(connections(), ["network"]);
    attached.phone.live_one_day().unwrap();
    attached.back_up(&[]);
    assert_eq!(attached.snapshots().len(), 2);
    attached.fails(&["pair", "--force"], NOT_TRUSTED, &["cable"]);
    attached.assert_left_well();
}

/// Two phones on one socket, and a home that both trust.
fn two() -> (Vec<Simulator>, Home, impl Fn(&Home, &[&str]) -> Said) {
    let phones = [1, 2].map(|seed| Phone::new(seed, 5_000_000).unwrap());
    let phones = Simulator::start_many(phones.into(), Options::default()).unwrap();
    let address = phones[0].address();
    let run = move |home: &Home, args: &[&str]| home.run_with(&[("USBMUXD_SOCKET_ADDRESS", &address)], args);
    let home = Home::new();
    for phone in &phones {
        let said = run(&home, &["pair", "--udid", phone.udid()]);
        assert_eq!(said.exit, 0, "{said:?}");
    }
    (phones, home, run)
}

#[test]
fn all_phones_in_reach_are_backed_up_each_into_its_own_snapshots() {
    let (phones, home, run) = two();
    let rows = |said: &Said| -> Value { serde_json::from_str(&said.stdout).unwrap() };
    for args in COMMANDS.iter().filter(|args| args[0] != "backup") {
        run(&home, args).assert_failed(USAGE, &["several phones", phones[0].udid(), phones[1].udid(), "--udid"]);
    }
    assert_eq!(rows(&run(&home, &["--json", "devices"])).as_array().unwrap().len(), 2);

    let both = run(&home, &["backup"]);
    assert!(both.exit == 0 && both.stderr.contains("2 phones backed up"), "{both:?}");
    for phone in &phones {
        assert_whole(&home.exported(phone.udid()), &phone.phone());
        phone.live_one_day().unwrap();
    }
    // One that fails does not keep the other from being kept.
    phones[0].set_locked(true);
    let said = run(&home, &["--json", "backup"]);
    assert_eq!(said.exit, REFUSED, "{said:?}");
    let mut outcomes: Vec<(String, String)> = Vec::new();
    for row in rows(&said).as_array().unwrap() {
        outcomes.push((row["udid"].as_str().unwrap().into(), row["outcome"].as_str().unwrap().into()));
        assert_eq!(row["snapshot"].is_null(), !row["error"].is_null(), "{row}");
    }
    outcomes.sort();
    let mut wanted =
        vec![(phones[0].udid().to_owned(), "failed".to_owned()), (phones[1].udid().to_owned(), "kept".to_owned())];
    wanted.sort();
    assert_eq!(outcomes, wanted);
    assert_whole(&home.exported(phones[1].udid()), &phones[1].phone());
    phones[0].set_locked(false);
    let one = run(&home, &["--json", "backup", "--udid", phones[0].udid()]);
    assert_eq!(rows(&one).as_array().unwrap().len(), 1, "{one:?}");
    assert_whole(&home.exported(phones[0].udid()), &phones[0].phone());
    for phone in &phones {
        assert_eq!(phone.complaints(), Vec::<String>::new());
        assert_eq!(home.json(&["snapshots", "--udid", phone.udid()]).as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_snapshot_of_one_phone_goes_onto_another() {
    let (phones, home, run) = two();
    let said = run(&home, &["backup", "--udid", phones[0].udid()]);
    assert_eq!(said.exit, 0, "{said:?}");
    // The backup lies in the folder of the phone that it is of, or, as others see it, of the phone that it goes to.
    for fault in [None, Some(Fault::TargetFolder)] {
        phones[1].set_fault(fault);
        let restore = || run(&home, &["restore", "latest", "--yes", "--udid", phones[1].udid()]);
        assert!(eventually(|| run(&home, &["devices"]).stdout.contains(phones[1].udid())));
        let said = restore();
        assert_eq!(said.exit, 0, "{said:?}");
        assert!(phones[0].restored().is_none());
        assert_restored(&phones[1].restored().unwrap(), &phones[0].phone(), true);
    }
    phones.iter().for_each(|phone| assert_eq!(phone.complaints(), Vec::<String>::new()));
}
