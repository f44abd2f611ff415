//! `dfdaemon`: the reference daemon, with any of the roles scheduler, seed and peer.

fn main() -> std::process::ExitCode {
    dfget::dfdaemon_main()
}
