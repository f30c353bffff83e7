# What engine_apparmor_test expects: everything but writing below /tmp/denied.
abi <abi/3.0>,
profile berth-test flags=(attach_disconnected) {
  capability,
  network,
  file,
  mount,
  umount,
  signal,
  ptrace,
  unix,
  deny /tmp/denied/** w,
}
