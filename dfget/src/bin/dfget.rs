//! `dfget`: downloads one URL, through the local daemon or alone.

fn main() -> std::process::ExitCode {
    dfget::dfget_main()
}
