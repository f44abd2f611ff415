#![allow(clippy::unwrap_used)]

use super::*;

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn is_its_users_alone_and_goes_with_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run/api.sock");
    let socket = Socket::bind(&path, Mode(0o600), None).unwrap();
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let (client, accepted) = tokio::join!(tokio::net::UnixStream::connect(&path), socket.listener.accept());
    assert!(client.is_ok() && accepted.is_ok());
    drop(socket);
    assert!(!path.exists());
    let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["api.sock.lock"]);
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let first = Socket::bind(&path, Mode(0o600), None).unwrap();
    let refused = Socket::bind(&path, Mode(0o600), None).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Config);
    assert!(UnixStream::connect(&path).is_ok());
    drop(first);
    assert!(Socket::bind(&path, Mode(0o600), None).is_ok());
}

#[tokio::test]
async fn another_programs_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let _theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
    assert_eq!(Socket::bind(&path, Mode(0o600), None).unwrap_err().kind, ErrorKind::Config);
    assert!(UnixStream::connect(&path).is_ok());
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let socket = Socket::bind(&path, Mode(0o600), None).unwrap();
    assert!(UnixStream::connect(&path).is_ok());
    drop(socket);
    fs::write(&path, "precious").unwrap();
    assert_eq!(Socket::bind(&path, Mode(0o600), None).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn the_mode_and_group_say_who_may_connect() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/api.sock");
    let group = rustix::process::getegid().as_raw();
    let socket = Socket::bind(&path, Mode(0o660), Some(&group.to_string())).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o755));
    drop(socket);
    let refused = Socket::bind(&path, Mode(0o660), Some("no-such-group")).unwrap_err();
    assert!(refused.message.contains("no-such-group"), "{refused:?}");
    assert_eq!(group_id("root").unwrap(), 0);
}
