#include <unistd.h>

#include <cstdio>

#include "base/strings.h"
#include "client.h"
#include "commands.h"
#include "progress.h"
#include "table.h"

namespace berth::cli {

Result<FetchedImage> fetch_image(Client& client, const PullCommand& command) {
  ::berth::v1::PullImageRequest request;
  request.set_image(command.image);
  if (!command.credentials.empty()) {
    const auto colon = command.credentials.find(':');
    if (colon == std::string::npos) return fail(Code::kInvalid, "--creds wants USER:PASSWORD");
    request.mutable_auth()->set_username(command.credentials.substr(0, colon));
    request.mutable_auth()->set_password(command.credentials.substr(colon + 1));
  }
  grpc::ClientContext context;
  const auto stream = client.operators().PullImage(&context, request);
  PullDisplay display(::isatty(STDERR_FILENO) == 1, command.quiet);
  ::berth::v1::PullImageProgress progress;
  FetchedImage image;
  while (stream->Read(&progress)) {
    display.show(progress);
    if (!progress.image_id().empty()) image = {progress.image_id(), progress.image_size_bytes()};
  }
  const auto status = stream->Finish();
  if (!status.ok()) return fail(client.explain(status).in(command.image));
  return image;
}

Result<int> pull(Client& client, const PullCommand& command) {
  BERTH_ASSIGN(const auto image, fetch_image(client, command), "pull");
  if (!command.quiet) {
    std::fprintf(stderr, "pulled %s (%s on disk)\n", command.image.c_str(), human_bytes(image.size_bytes).c_str());
  }
  std::puts(image.id.c_str());
  return 0;
}

namespace {

// The tag's two halves; "<none>" where an image has no tag.
std::pair<std::string, std::string> name_and_tag(const std::string& tag) {
  const auto colon = tag.rfind(':');
  const auto slash = tag.rfind('/');
  if (colon == std::string::npos || (slash != std::string::npos && colon < slash)) return {tag, "<none>"};
  return {tag.substr(0, colon), tag.substr(colon + 1)};
}

std::vector<std::vector<std::string>> image_rows(const pb::Image& image, bool digests) {
  std::vector<std::vector<std::string>> rows;
  const std::string size = human_bytes(image.size());
  const auto digest_of = [&image](const std::string& name) {
    for (const auto& digest : image.repo_digests()) {
      if (name.empty() || digest.starts_with(name + "@")) return digest.substr(digest.find('@') + 1);
    }
    return std::string("<none>");
  };
  std::vector<std::string> tags(image.repo_tags().begin(), image.repo_tags().end());
  if (tags.empty()) {
    const std::string digest = image.repo_digests_size() > 0 ? image.repo_digests(0) : "<none>";
    tags.push_back(digest.substr(0, digest.find('@')));
  }
  for (const auto& tag : tags) {
    const auto [name, label] = name_and_tag(tag);
    std::vector<std::string> row = {name, label};
    if (digests) row.push_back(digest_of(name));
    row.insert(row.end(), {short_id(image.id()), size});
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace

Result<int> images(Client& client, const ImagesCommand& command) {
  BERTH_ASSIGN(const auto list,
               client.call(client.images(), &pb::ImageService::Stub::ListImages, pb::ListImagesRequest()),
               "list images");
  if (command.json) {
    BERTH_TRY(print_json(list), "list images");
    return 0;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& image : list.images()) {
    if (command.quiet) {
      std::puts(image.id().c_str());
      continue;
    }
    for (auto& row : image_rows(image, command.digests)) rows.push_back(std::move(row));
  }
  if (command.quiet) return 0;
  std::vector<std::string> header = {"IMAGE", "TAG"};
  if (command.digests) header.emplace_back("DIGEST");
  header.insert(header.end(), {"IMAGE ID", "SIZE"});
  print_table(header, rows);
  return 0;
}

Result<int> remove_images(Client& client, const std::vector<std::string>& names) {
  int code = 0;
  for (const auto& name : names) {
    // CRI's RemoveImage is silent about unknown images; a person wants to know about a misspelt name.
    pb::ImageStatusRequest look;
    look.mutable_image()->set_image(name);
    BERTH_ASSIGN(const auto found, client.call(client.images(), &pb::ImageService::Stub::ImageStatus, look),
                 "look up " + name);
    if (!found.has_image()) {
      std::fprintf(stderr, "berth: no image \"%s\"\n", printable(name).c_str());
      code = 1;
      continue;
    }
    pb::RemoveImageRequest request;
    request.mutable_image()->set_image(name);
    BERTH_TRY(client.call(client.images(), &pb::ImageService::Stub::RemoveImage, request), "remove " + name);
    std::printf("%s\n", name.c_str());
  }
  return code;
}

}  // namespace berth::cli
