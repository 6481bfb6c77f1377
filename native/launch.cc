// SPDX-License-Identifier: MIT
//
// spillway-launch: the first program of every worker. It does what only the process itself can do (take on
// another user, drop its privileges, tie its life to the master's, learn its own process id) and then becomes
// the program, under the same process id. It opens nothing, and leaves the signal mask and dispositions as
// they are.
//
//   spillway-launch [options] -- program [argument...]
//
//   --uid N --gid N        become that user and group; the supplementary groups are those of --groups, or
//   none
//   --groups N,N,...
//   --die-with-parent PID  be killed when the parent, whose process id this is, has gone
//   --lifeline N           be killed when the other end of this socket has been closed, by a process of its
//   own that
//                          watches it; closed here
//   --own-group            lead a process group of its own, so that the master can end what it starts with it
//   --report-fd N          write the reason here if the program cannot be run; closed when it runs
//   --close-from N         close this descriptor and all above it
//   --blocking             make accept() wait on the descriptors of LISTEN_FDS
//   --cpus N,N,...         run on these processors
//
// Like the shells it ends with 127 when the program is not found and 126 when it cannot be executed, and with
// 125 when one of its own steps fails.
#include <fcntl.h>
#include <getopt.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "affinity.h"
#include "process.h"

namespace {

constexpr int kOwnFailure = 125;
constexpr int kNotExecutable = 126;
constexpr int kNotFound = 127;

constexpr int kFirstPassedFd = 3; // SD_LISTEN_FDS_START, sd_listen_fds(3)

int report_fd = -1;

// A reader that has gone is no reason to fail in another way than the one that is told.
void write_to(int fd, const std::string &text) {
  [[maybe_unused]] ssize_t written = ::write(fd, text.data(), text.size());
}

[[noreturn]] void give_up(int code, const std::string &message) {
  write_to(STDERR_FILENO, "spillway-launch: " + message + "\n");
  if (report_fd >= 0)
    write_to(report_fd, message);
  _exit(code);
}

// To be called right after the system call that failed: it reads errno.
[[noreturn]] void give_up_system(const std::string &what) {
  give_up(kOwnFailure, what + ": " + std::strerror(errno));
}

struct Options {
  std::optional<uid_t> uid;
  std::optional<gid_t> gid;
  std::vector<gid_t> groups;
  std::vector<int> cpus;
  std::optional<pid_t> parent;
  std::optional<unsigned> close_from;
  std::optional<int> lifeline;
  bool own_group = false;
  bool blocking = false;
  char **program = nullptr; // with its arguments, ended by a null pointer
};

template <typename T> T number(std::string_view text, const char *name) {
  T value{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  // (uid_t)-1 means "leave it as it is" to the kernel, so it cannot be asked for.
  if (error != std::errc() || end != text.data() + text.size() || value == static_cast<T>(-1))
    give_up(kOwnFailure, std::string(name) + " takes a number, not '" + std::string(text) + "'");
  return value;
}

template <typename T> std::vector<T> numbers(std::string_view text, const char *option) {
  std::vector<T> list;
  while (!text.empty()) {
    auto comma = text.find(',');
    list.push_back(number<T>(text.substr(0, comma), option));
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return list;
}

Options parse(int argc, char **argv) {
  // clang-format off
  static const option known[] = {
      {"uid", required_argument, nullptr, 'u'},
      {"gid", required_argument, nullptr, 'g'},
      {"groups", required_argument, nullptr, 's'},
      {"die-with-parent", required_argument, nullptr, 'p'},
      {"own-group", no_argument, nullptr, 'o'},
      {"report-fd", required_argument, nullptr, 'r'},
      {"close-from", required_argument, nullptr, 'c'},
      {"blocking", no_argument, nullptr, 'b'},
      {"cpus", required_argument, nullptr, 'a'},
      {"lifeline", required_argument, nullptr, 'l'},
      {nullptr, 0, nullptr, 0},
  };
  // clang-format on
  Options options;
  int found;
  int index = 0;
  opterr = 0; // getopt's own message would be a second one
  // "+": the first word that is no option ends them, so that the program's own are left alone.
  while ((found = getopt_long(argc, argv, "+", known, &index)) != -1) {
    const char *name = known[index].name;
    switch (found) {
    case 'u':
      options.uid = number<uid_t>(optarg, name);
      break;
    case 'g':
      options.gid = number<gid_t>(optarg, name);
      break;
    case 's':
      options.groups = numbers<gid_t>(optarg, name);
      break;
    case 'p':
      options.parent = number<pid_t>(optarg, name);
      break;
    case 'o':
      options.own_group = true;
      break;
    case 'r':
      report_fd = number<int>(optarg, name);
      break;
    case 'c':
      options.close_from = number<unsigned>(optarg, name);
      break;
    case 'b':
      options.blocking = true;
      break;
    case 'a':
      options.cpus = numbers<int>(optarg, name);
      break;
    case 'l':
      options.lifeline = number<int>(optarg, name);
      break;
    default:
      give_up(kOwnFailure, "unknown option or missing value; options are: --uid, --gid, --groups, "
                           "--die-with-parent, --own-group, --report-fd, --close-from, --blocking, "
                           "--cpus, --lifeline");
    }
  }
  if (optind >= argc)
    give_up(kOwnFailure, "no program is given");
  options.program = argv + optind;
  return options;
}

// The running program's descriptor must close by itself: that it is closed is how the parent learns of
// success.
void close_report_on_exec() {
  if (report_fd >= 0 && fcntl(report_fd, F_SETFD, FD_CLOEXEC) != 0)
    give_up_system("--report-fd " + std::to_string(report_fd));
}

// Whatever the master's own parent has left open without close-on-exec would pass through the master to every
// worker: Node marks inherited descriptors only as far as they are numbered without a gap
// (uv_disable_stdio_inheritance). Kernels before 5.9 do not know the call; there they stay open.
void close_from(unsigned first) {
  if (syscall(SYS_close_range, first, ~0U, 0) != 0 && errno != ENOSYS)
    give_up_system("cannot close inherited descriptors");
}

// Groups first: they can no longer be changed once the user is another one.
void change_identity(const Options &options) {
  if (options.uid || options.gid) {
    if (setgroups(options.groups.size(), options.groups.data()) != 0)
      give_up_system("cannot set the supplementary groups");
  }
  if (options.gid && setresgid(*options.gid, *options.gid, *options.gid) != 0)
    give_up_system("cannot become group " + std::to_string(*options.gid));
  if (options.uid && setresuid(*options.uid, *options.uid, *options.uid) != 0)
    give_up_system("cannot become user " + std::to_string(*options.uid));
}

// The bounding set stays: no_new_privs lets an exec give nothing that the process does not have, also to user
// 0. Without the set the kernel would refuse to run a program that has file capabilities (capabilities(7),
// "Safety checking for capability-dumb binaries").
void drop_capabilities() {
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0)
    give_up_system("cannot clear the ambient capabilities");
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capset, &header, none) != 0)
    give_up_system("cannot drop the capabilities");
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    give_up_system("cannot set no_new_privs");
}

// Also the leader of a session is the leader of its group; the kernel only refuses to move it to another one.
void lead_group() {
  if (getpgrp() != getpid() && setpgid(0, 0) != 0)
    give_up_system("cannot lead a process group");
}

// The kernel clears the wish when credentials change, so this comes after those changes; the program cannot
// clear it that way, since no_new_privs makes its set-id bits void.
void die_with_parent(pid_t parent) {
  auto asked = spillway::process::die_with_parent(parent, SIGKILL);
  if (!asked.ok()) {
    errno = asked.failure().error;
    give_up_system("cannot ask for a signal at the parent's end");
  }
  if (!asked.value())
    give_up(kOwnFailure, "the parent, process " + std::to_string(parent) + ", has gone");
}

// Programs that follow the convention expect systemd's default, a socket that blocks (NonBlocking= in
// systemd.service(5)); those that want another mode set it themselves.
void make_blocking() {
  const char *count = std::getenv("LISTEN_FDS");
  int passed = count ? number<int>(count, "LISTEN_FDS") : 0;
  for (int fd = kFirstPassedFd; fd < kFirstPassedFd + passed; fd++) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
      give_up_system("descriptor " + std::to_string(fd));
  }
}

// LISTEN_PID names the process the descriptors are meant for; nobody knew it before (sd_listen_fds(3)).
void announce_pid() {
  if (std::getenv("LISTEN_FDS") && setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1) != 0)
    give_up_system("cannot set LISTEN_PID");
}

// In a process of its own: ends this one when nobody holds the other end any more. It is nobody's child that
// this process could meet, and in no group that is ended with it: it ends when this one does.
[[noreturn]] void watch_over(int process, int lifeline) {
  setsid();
  prctl(PR_SET_NAME, "spillway-life", 0, 0, 0);
  // Nothing of the worker's may stay open here. The lowest numbers are for the two that are needed.
  int kept[] = {fcntl(process, F_DUPFD, 3), fcntl(lifeline, F_DUPFD, 3)};
  if (kept[0] < 0 || kept[1] < 0 || dup2(kept[0], 0) < 0 || dup2(kept[1], 1) < 0)
    _exit(kOwnFailure);
  syscall(SYS_close_range, 2, ~0U, 0);
  pollfd watched[] = {{0, POLLIN, 0}, {1, 0, 0}};
  while (poll(watched, 2, -1) < 0 && errno == EINTR)
    ;
  if (watched[0].revents == 0)
    syscall(SYS_pidfd_send_signal, 0, SIGKILL, nullptr, 0);
  _exit(0);
}

void hang_on(int lifeline) {
  int process = static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0));
  if (process < 0)
    give_up_system("pidfd_open");
  pid_t child = fork();
  if (child < 0)
    give_up_system("fork");
  if (child == 0) {
    // Whoever adopts it waits for it.
    pid_t watcher = fork();
    if (watcher == 0)
      watch_over(process, lifeline);
    _exit(watcher < 0 ? kOwnFailure : 0);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR)
    ;
  if (status != 0)
    give_up(kOwnFailure, "cannot start the process that watches the lifeline");
  close(process);
  close(lifeline);
}

// Those that have gone offline since the master looked are left out by the kernel. If all have, it runs
// anywhere until the master has seen that.
void run_on(const std::vector<int> &cpus) {
  auto set = spillway::affinity::set_thread(0, cpus);
  if (set.ok() || set.failure().error == EINVAL)
    return;
  errno = set.failure().error;
  give_up_system("--cpus");
}

} // namespace

int main(int argc, char **argv) {
  Options options = parse(argc, argv);
  close_report_on_exec();
  if (options.own_group)
    lead_group();
  if (options.close_from)
    close_from(*options.close_from);
  // Before the identity, which may take away the right to leave the processors of the master's own.
  if (!options.cpus.empty())
    run_on(options.cpus);
  change_identity(options);
  drop_capabilities();
  if (options.parent)
    die_with_parent(*options.parent);
  if (options.lifeline)
    hang_on(*options.lifeline);
  if (options.blocking)
    make_blocking();
  announce_pid();
  execvp(options.program[0], options.program);
  int code = errno == ENOENT ? kNotFound : kNotExecutable;
  give_up(code, "cannot run '" + std::string(options.program[0]) + "': " + std::strerror(errno));
}
