#pragma once
#include <map>
#include <string>

#include "base/result.h"
#include "oci_layout.h"

namespace berth::test {

/// The text of /www/index.html in every image.
inline constexpr const char* kPage = "<h1>a page from a pod</h1>\n";

/// Images made of busybox-static, by name; all share their first layer.
///   busybox      Cmd: a web server on port 80 that serves /www
///   layered      two more layers: /data/kept from the first, /data/gone hidden by a whiteout, /data/dir made opaque
///                with only /data/dir/new, /data/link a hard link to /data/one,
///                /links/up and /links/abs symlinks to /etc/passwd (by more ".." than there are folders) and /data
///   configured   User app (1000:1000, in group extra 2000), Entrypoint /bin/sh -c, Cmd, Env GREETING=hello,
///                WorkingDir /work/place, StopSignal SIGUSR1
///   logger       /bin/log_writer (tests/helpers/log_writer.cc)
///   pause        /bin/pause alone: the sandbox image that peers need
/// `programs`: the folder with log_writer and pause_main.
Result<std::map<std::string, Image>> make_test_images(const std::string& programs);

}  // namespace berth::test
