#pragma once
#include <string>

namespace berth::oci {

/// The path of another program of ours. /proc/self/exe does not tell where we are: it is a read-only view of the file
/// by now (docs/adr/0009-programs-that-enter-containers-run-from-a-read-only-view.md). So first beside the file that
/// `own_name` (argv[0]) leads to, by PATH where it has no '/', then where `make install` puts programs; else `name`
/// alone, for whoever starts it to look in PATH. Makes nothing.
[[nodiscard]] std::string program_beside(const std::string& own_name, const std::string& name);

}  // namespace berth::oci
