#include "test_images.h"

#include "base/strings.h"
#include "os/file.h"
#include "process.h"

namespace berth::test {
namespace {

constexpr std::size_t kMaxProgram = 64U << 20;
constexpr const char* kPath = "PATH=/usr/local/bin:/usr/bin:/bin";

Result<std::string> base_layer() {
  BERTH_ASSIGN(const auto listed, run_program({"busybox", "--list"}), "busybox-static");
  BERTH_ASSIGN(const auto program, os::read_file("/bin/busybox", kMaxProgram), "busybox-static");
  TarBuilder tar;
  for (const auto* dir : {"bin", "etc", "www", "dev", "proc", "sys", "run", "data", "data/dir", "work", "work/place"}) {
    tar.dir(dir);
  }
  tar.dir("tmp", 01777);
  tar.file("bin/busybox", program, 0755);
  for (const auto applet : split(trim(listed.out), '\n')) {
    if (applet != "busybox") tar.symlink("bin/" + std::string(applet), "busybox");
  }
  tar.file("etc/passwd",
           "root:x:0:0:root:/:/bin/sh\n"
           "app:x:1000:1000:app:/work:/bin/sh\n");
  tar.file("etc/group", "root:x:0:\napp:x:1000:\nextra:x:2000:app\n");
  tar.file("www/index.html", kPage);
  tar.file("data/kept", "kept\n").file("data/gone", "gone\n").file("data/dir/old", "old\n");
  return tar.finish();
}

Result<std::string> program_layer(const std::string& path, const std::string& name) {
  BERTH_ASSIGN(const auto program, os::read_file(path, kMaxProgram), name);
  return TarBuilder().dir("bin").file("bin/" + name, program, 0755).finish();
}

}  // namespace

Result<std::map<std::string, Image>> make_test_images(const std::string& programs) {
  BERTH_ASSIGN(const auto base, base_layer(), "base layer");
  BERTH_ASSIGN(const auto logger, program_layer(programs + "/log_writer", "log_writer"), "logger image");
  BERTH_ASSIGN(const auto steady, program_layer(programs + "/steady_writer", "steady_writer"), "logger image");
  BERTH_ASSIGN(const auto pause, program_layer(programs + "/pause_main", "pause"), "pause image");
  using nlohmann::json;
  const json web = {{"Cmd", {"/bin/httpd", "-f", "-p", "80", "-h", "/www"}}, {"Env", json::array({kPath})}};
  const json configured = {{"User", "app"},
                           {"Entrypoint", {"/bin/sh", "-c"}},
                           {"Cmd", json::array({"trap 'exit 3' USR1; echo \"$GREETING from $(id -un)\"; "
                                                "while true; do sleep 0.05; done"})},
                           {"Env", {kPath, "GREETING=hello"}},
                           {"WorkingDir", "/work/place"},
                           {"StopSignal", "SIGUSR1"}};
  std::map<std::string, Image> images;
  images["busybox"] = {{base}, web};
  // A hard link and its target are in one layer, as tar writes them.
  images["layered"] = {{base,
                        TarBuilder()
                            .dir("data")
                            .whiteout("data/gone")
                            .file("data/one", "one\n")
                            .hard_link("data/link", "data/one")
                            .dir("links")
                            .symlink("links/up", "../../../../../../../../etc/passwd")
                            .symlink("links/abs", "/data")
                            .finish(),
                        TarBuilder().dir("data/dir").opaque("data/dir").file("data/dir/new", "new\n").finish()},
                       web};
  images["configured"] = {{base}, configured};
  images["logger"] = {{base, logger, steady},
                      {{"Cmd", json::array({"/bin/log_writer"})}, {"Env", json::array({kPath})}}};
  images["pause"] = {{pause}, {{"Entrypoint", json::array({"/bin/pause"})}}};
  return images;
}

}  // namespace berth::test
