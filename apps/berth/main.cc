// The operator's command line. Each command is a function in commands.h; this file only maps words to them.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <optional>

#include "client.h"
#include "commands.h"
#include "table.h"

namespace {

using berth::Result;
using berth::cli::Client;

/// What the chosen command will do once the whole line is parsed.
using Action = std::function<Result<int>(Client&)>;

/// What follows the first positional argument belongs to the container's command, options included: `run IMAGE sh -c
/// ...`.
void takes_command(CLI::App& sub) {
  sub.prefix_command();
  sub.footer("The container's command and its arguments follow the name.");
}

void image_commands(CLI::App& app, Action& action) {
  {
    auto command = std::make_shared<berth::cli::PullCommand>();
    auto* sub = app.add_subcommand("pull", "Fetch an image from a registry");
    sub->add_option("image", command->image, "name[:tag][@digest]")->required();
    sub->add_option("--creds", command->credentials, "USER:PASSWORD for the registry");
    sub->add_flag("-q,--quiet", command->quiet, "print the image id alone");
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::pull(c, *command); }; });
  }
  {
    auto command = std::make_shared<berth::cli::ImagesCommand>();
    auto* sub = app.add_subcommand("images", "List images");
    sub->add_flag("-q,--quiet", command->quiet, "print ids alone");
    sub->add_flag("--digests", command->digests, "show digests");
    sub->add_flag("--json", command->json, "print JSON");
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::images(c, *command); }; });
  }
  {
    auto names = std::make_shared<std::vector<std::string>>();
    auto* sub = app.add_subcommand("rmi", "Remove images");
    sub->add_option("image", *names, "names or ids")->required();
    sub->callback([names, &action] { action = [names](Client& c) { return berth::cli::remove_images(c, *names); }; });
  }
  {
    auto* image = app.add_subcommand("image", "Look after images");
    image->require_subcommand(1);
    auto command = std::make_shared<berth::cli::VerifyCommand>();
    auto* sub = image->add_subcommand("verify", "Read images and compare them with their digests");
    sub->add_option("image", command->images, "names or ids (default: all)");
    sub->add_flag("--repair", command->repair, "mend what is damaged, fetching no more than that again");
    sub->callback(
        [command, &action] { action = [command](Client& c) { return berth::cli::verify_images(c, *command); }; });
  }
}

void run_command(CLI::App& app, Action& action) {
  auto command = std::make_shared<berth::cli::RunCommand>();
  auto* sub = app.add_subcommand("run", "Run one container in a pod of its own");
  sub->add_option("image", command->image, "image to run, fetched when missing")->required();
  takes_command(*sub);
  sub->add_option("--name", command->name, "name of the pod (default: from the image)");
  sub->add_option("--namespace", command->pod_namespace, "namespace of the pod")->capture_default_str();
  sub->add_option("-p,--publish", command->ports, "[IP:]HOST-PORT:CONTAINER-PORT[/PROTOCOL]")->allow_extra_args(false);
  sub->add_option("-e,--env", command->env, "NAME=VALUE, or NAME to pass yours on")->allow_extra_args(false);
  sub->add_option("-v,--volume", command->volumes, "/HOST:/CONTAINER[:ro]")->allow_extra_args(false);
  sub->add_option("--entrypoint", command->entrypoint, "program instead of the image's ENTRYPOINT");
  sub->add_option("-u,--user", command->user, "user id or name");
  sub->add_option("-w,--workdir", command->workdir, "working directory");
  sub->add_option("-m,--memory", command->memory, "memory limit: 64m, 1g");
  sub->add_option("--cpus", command->cpus, "CPU limit: 0.5");
  sub->add_option("--runtime", command->runtime, "runtime handler, as a RuntimeClass names it");
  sub->add_option("--pull", command->pull, "always, missing or never")->capture_default_str();
  sub->add_option("--log-dir", command->log_dir, "where logs are kept")->capture_default_str();
  sub->add_flag("--host-network", command->host_network, "use the host's network");
  sub->add_flag("--privileged", command->privileged, "give all rights");
  sub->add_flag("--read-only", command->read_only, "read-only root filesystem");
  sub->add_flag("-f,--follow", command->follow, "show the output until the container ends, and end with its code");
  sub->add_flag("--rm", command->remove, "like --follow, then remove the pod");
  sub->callback([command, sub, &action] {
    command->args = sub->remaining();
    action = [command](Client& c) { return berth::cli::run(c, *command); };
  });
}

void list_commands(CLI::App& app, Action& action) {
  using List = Result<int> (*)(Client&, const berth::cli::ListCommand&);
  const auto add = [&app, &action](const char* name, const char* help, bool has_all, List function) {
    auto command = std::make_shared<berth::cli::ListCommand>();
    auto* sub = app.add_subcommand(name, help);
    if (has_all) sub->add_flag("-a,--all", command->all, "ended ones too");
    sub->add_flag("-q,--quiet", command->quiet, "print ids alone");
    sub->add_flag("--json", command->json, "print JSON");
    sub->callback(
        [command, function, &action] { action = [command, function](Client& c) { return function(c, *command); }; });
  };
  add("pods", "List pods", false, berth::cli::pods);
  add("ps", "List containers", true, berth::cli::ps);

  auto names = std::make_shared<std::vector<std::string>>();
  auto* sub = app.add_subcommand("inspect", "Show all that is known of pods, containers or images, as JSON");
  sub->add_option("name", *names, "names or ids")->required();
  sub->callback([names, &action] { action = [names](Client& c) { return berth::cli::inspect(c, *names); }; });
}

void container_commands(CLI::App& app, Action& action) {
  {
    auto command = std::make_shared<berth::cli::LogsCommand>();
    auto* sub = app.add_subcommand("logs", "Show what a container has written");
    sub->add_option("container", command->container, "container, or pod with one container")->required();
    sub->add_flag("-f,--follow", command->follow, "go on until the container ends");
    sub->add_flag("-t,--timestamps", command->timestamps, "show when each line was written");
    sub->add_option("-n,--tail", command->tail, "the last lines only");
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::logs(c, *command); }; });
  }
  {
    auto command = std::make_shared<berth::cli::ExecCommand>();
    auto* sub = app.add_subcommand("exec", "Run a command in a container and show its output when it has ended");
    sub->add_option("container", command->container, "container, or pod with one container")->required();
    sub->add_option("--timeout", command->timeout_s, "seconds after which the command is killed");
    takes_command(*sub);
    sub->callback([command, sub, &action] {
      command->args = sub->remaining();
      action = [command](Client& c) { return berth::cli::exec(c, *command); };
    });
  }
  {
    auto command = std::make_shared<berth::cli::StopCommand>();
    auto* sub = app.add_subcommand("stop", "Stop pods or containers");
    sub->add_option("name", command->names, "names or ids")->required();
    sub->add_option("-t,--timeout", command->timeout_s, "seconds of grace before SIGKILL")->capture_default_str();
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::stop(c, *command); }; });
  }
  {
    auto command = std::make_shared<berth::cli::RemoveCommand>();
    auto* sub = app.add_subcommand("rm", "Remove pods or containers");
    sub->add_option("name", command->names, "names or ids")->required();
    sub->add_flag("-f,--force", command->force, "also running ones");
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::remove(c, *command); }; });
  }
  {
    auto command = std::make_shared<berth::cli::WhyCommand>();
    auto* sub = app.add_subcommand("why", "Tell what happened to a pod, step by step, also after its removal");
    sub->add_option("pod", command->object, "id of a pod or container, name, or NAMESPACE/NAME")->required();
    sub->add_flag("--json", command->json, "print JSON");
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::why(c, *command); }; });
  }
  {
    auto repair = std::make_shared<bool>(false);
    auto* sub = app.add_subcommand("fsck", "Look for everything of ours on the node that nothing owns");
    sub->add_flag("--repair", *repair, "remove it");
    sub->callback([repair, &action] { action = [repair](Client& c) { return berth::cli::fsck(c, *repair); }; });
  }
  {
    auto command = std::make_shared<berth::cli::DoctorCommand>();
    auto* sub = app.add_subcommand("doctor", "Look whether this node is well, and say what to do where it is not");
    sub->add_option("-o,--output", command->output, "text or json")
        ->check(CLI::IsMember({"text", "json"}))
        ->capture_default_str();
    sub->callback([command, &action] { action = [command](Client& c) { return berth::cli::doctor(c, *command); }; });
  }
  auto* sub = app.add_subcommand("version", "Show the versions of this program and of the daemon");
  sub->callback([&action] { action = berth::cli::version; });
}

}  // namespace

int main(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_DFL);
  CLI::App app("berth: look at and run pods on this node", "berth");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string("berth ") + BERTH_VERSION);
  std::string address = "/run/berth/berth.sock";
  app.add_option("-a,--address", address, "berthd's socket")->envname("BERTH_ADDRESS")->capture_default_str();
  Action action;
  image_commands(app, action);
  run_command(app, action);
  list_commands(app, action);
  container_commands(app, action);
  CLI11_PARSE(app, argc, argv);

  Client client(address.starts_with("unix://") ? address.substr(7) : address);
  const auto code = action(client);
  if (!code) {
    std::fflush(stdout);
    std::fprintf(stderr, "berth: %s\n", berth::cli::printable(code.error().text()).c_str());
    return 1;
  }
  return *code;
}
