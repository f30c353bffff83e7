#include <cstdio>

#include "client.h"
#include "commands.h"

namespace berth::cli {
namespace {

Result<std::vector<std::string>> all_images(Client& client) {
  BERTH_ASSIGN(const auto list,
               client.call(client.images(), &pb::ImageService::Stub::ListImages, pb::ListImagesRequest()),
               "list images");
  std::vector<std::string> out;
  for (const auto& image : list.images()) out.push_back(image.id());
  return out;
}

/// Prints what was found of one image; whether anything is left to do.
bool show(const std::string& name, const ::berth::v1::VerifyImageResponse& found) {
  bool left = false;
  for (const auto& fault : found.faults()) {
    std::printf("%s: %s: %s%s\n", name.c_str(), fault.object().c_str(), fault.what().c_str(),
                fault.mended() ? ": mended" : "");
    left = left || !fault.mended();
  }
  if (found.faults_size() == 0) std::printf("%s: %u layers whole", name.c_str(), found.verified_layers());
  if (found.faults_size() == 0 && found.unpacked_layers() != 0) {
    std::printf(", %u unpacked, which cannot be verified", found.unpacked_layers());
  }
  if (found.faults_size() == 0) std::puts("");
  return left;
}

/// Pulls what was taken away for its damage: first by tag, so that the digest's name comes with it.
Result<> pull_again(Client& client, const ::berth::v1::VerifyImageResponse& found) {
  bool tagged = false;
  for (const bool tags : {true, false}) {
    for (const auto& name : found.lost_names()) {
      const bool is_tag = name.find('@') == std::string::npos;
      if (is_tag != tags || (!is_tag && tagged)) continue;
      PullCommand command;
      command.image = name;
      BERTH_TRY(fetch_image(client, command), "pull again");
      tagged = tagged || is_tag;
    }
  }
  return {};
}

}  // namespace

Result<int> verify_images(Client& client, const VerifyCommand& command) {
  constexpr std::chrono::minutes kPatience{30};
  std::vector<std::string> names = command.images;
  if (names.empty()) {
    BERTH_ASSIGN(names, all_images(client), "verify");
  }
  bool left = false;
  for (const auto& name : names) {
    ::berth::v1::VerifyImageRequest request;
    request.set_image(name);
    request.set_repair(command.repair);
    BERTH_ASSIGN(const auto found,
                 client.call(client.operators(), &::berth::v1::Operator::Stub::VerifyImage, request, kPatience),
                 "verify " + name);
    const bool damaged = show(name, found);
    if (damaged && command.repair) {
      BERTH_TRY(pull_again(client, found), name);
    } else {
      left = left || damaged;
    }
  }
  if (left) std::puts("berth image verify --repair mends it");
  return left ? 1 : 0;
}

}  // namespace berth::cli
