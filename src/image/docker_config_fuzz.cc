#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "image/credentials.h"
#include "image/docker_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace berth::image;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto config = parse_docker_config(text)) {
    if (config->auths.size() > 1000 || config->cred_helpers.size() > 1000) std::abort();
    const std::string helper = helper_for(*config, "quay.io");
    if (helper.find('/') != std::string::npos) std::abort();
    berth::ignore(credentials_for(login_from_file(*config, "quay.io", "team/app"), "quay.io"), "any answer is right");
  }
  berth::ignore(parse_helper_answer(text), "any answer is right");
  return 0;
}
