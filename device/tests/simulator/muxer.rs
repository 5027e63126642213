//! Several phones at one muxer, and what it tells when they come and go.

use std::{sync::mpsc, thread, time::Duration};

use heirloom_device::{
    Error,
    lockdown::Lockdown,
    mux::{self, Connection, DeviceEntry, Event, Mux, SocketAddress, Usbmuxd},
};
use heirloom_sim::{Fault, Listen, Options, Simulator};

use crate::connected::{LABEL, muxer, phone};

#[test]
fn every_phone_in_reach_is_listed_and_answers_for_itself() {
    let phones: Vec<_> = (1..4).map(phone).collect();
    let names: Vec<_> = phones.iter().map(|phone| (phone.udid(), phone.name().to_owned())).collect();
    let simulators = Simulator::start_many(phones, Options::default()).unwrap();
    let mux = muxer(&simulators[0]);
    assert!(simulators.iter().all(|simulator| simulator.address() == simulators[0].address()));

    let devices = mux.devices().unwrap();
    assert!(devices.iter().all(|device| device.connection == Connection::Usb));
    assert!(devices.iter().map(|device| &device.udid).eq(names.iter().map(|(udid, _)| udid)));
    for (device, (udid, name)) in devices.iter().zip(&names) {
        let mut door = Lockdown::connect(&mux, device, LABEL).unwrap();
        assert_eq!(door.value(None, Some("DeviceName")).unwrap().unwrap().as_string(), Some(&**name));
        assert_eq!(mux::find(&mux, udid).unwrap(), *device);
        assert_eq!(mux::find(&mux, &udid.replace('-', "")).unwrap(), *device);
    }
    // The same phones by Wi-Fi: each is there once, by its cable.
    let by_wifi = devices.iter().map(|device| DeviceEntry {
        device_id: device.device_id + 50,
        connection: Connection::Network,
        ..device.clone()
    });
    let mut sorted = devices.clone();
    sorted.sort_by(|a, b| a.udid.cmp(&b.udid));
    assert_eq!(mux::once_each(by_wifi.chain(devices.clone()).collect()), sorted);

    let mut events = mux.listen().unwrap();
    let mut next = || events.next(Duration::from_secs(10)).unwrap().unwrap();
    let mut attached: Vec<_> = (0..3).map(|_| next()).collect();
    attached.sort_by_key(|event| devices.iter().position(|device| *event == Event::Attached(device.clone())));
    assert!(attached.into_iter().eq(devices.iter().cloned().map(Event::Attached)));
    simulators[1].detach();
    assert_eq!(next(), Event::Detached(devices[1].device_id));
    let gone = mux::find(&mux, &names[1].0);
    assert!(matches!(gone, Err(Error::NoDevice { .. })), "{gone:?}");
    assert_eq!(mux.devices().unwrap(), [devices[0].clone(), devices[2].clone()]);
    let gone = mux::wait_for(&mux, &names[1].0, Duration::from_millis(100));
    assert!(matches!(gone, Err(Error::Timeout)), "{gone:?}");
    simulators[1].attach();
    let back = mux::wait_for(&mux, &names[1].0, Duration::from_secs(10)).unwrap();
    assert_ne!(back.device_id, devices[1].device_id);
    assert_eq!(next(), Event::Attached(back));
}

#[cfg(unix)]
#[test]
fn odd_device_hides_no_phone() {
    let simulator = Simulator::start(phone(1), Options::default()).unwrap();
    simulator.set_fault(Some(Fault::OddMuxer));
    let mux = muxer(&simulator);
    let devices = mux.devices().unwrap();
    assert_eq!(devices.len(), 1);
    let mut events = mux.listen().unwrap();
    assert_eq!(events.next(Duration::from_secs(10)).unwrap(), Some(Event::Attached(devices[0].clone())));
    simulator.detach();
    assert_eq!(events.next(Duration::from_secs(10)).unwrap(), Some(Event::Detached(devices[0].device_id)));
}

#[test]
fn a_muxer_is_spoken_to_over_a_unix_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let listen = Listen::Unix(folder.path().join("mux"));
    let simulator = Simulator::start(phone(1), Options { listen, ..Options::default() }).unwrap();
    assert!(simulator.address().starts_with("UNIX:/"));
    let mux = muxer(&simulator);
    let device = mux::find(&mux, simulator.udid()).unwrap();
    Lockdown::connect(&mux, &device, LABEL).unwrap();
    drop(simulator);
    assert!(matches!(mux.devices(), Err(Error::NoMux { .. })));
}

/// Linux has those wait who connect to a full queue.
#[cfg(target_os = "linux")]
#[test]
fn a_muxer_that_accepts_nobody_does_not_hold_us() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mux");
    let server = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    server.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    server.listen(0).unwrap();
    let (sender, verdicts) = mpsc::channel();
    let asked = thread::spawn(move || {
        let mux = Usbmuxd::new(SocketAddress::Unix(path)).with_timeout(Duration::from_millis(100));
        // The first may be queued, and then waits for its answer.
        let connections: Vec<_> = (0..3).map(|_| mux.listen().map(drop)).collect();
        sender.send(connections).unwrap();
    });
    let verdicts = verdicts.recv_timeout(Duration::from_secs(10)).unwrap();
    asked.join().unwrap();
    assert!(verdicts.iter().any(|verdict| matches!(verdict, Err(Error::NoMux { .. }))), "{verdicts:?}");
    for verdict in verdicts {
        assert!(matches!(verdict, Err(Error::NoMux { .. } | Error::Timeout)), "{verdict:?}");
    }
}
