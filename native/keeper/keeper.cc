// SPDX-License-Identifier: MIT
//
// spillway-keeper: keeps a master alive, and what must not end with it.
//
//   spillway-keeper [--watchdog MILLISECONDS] [--once NAME] [--cpus N,N,...] [--notices PATH]
//                   -- program [argument...]
//
// With --cpus it runs on these processors, and its masters where it would have run without.
//
// The environment variable --once is for the first master alone: it names a descriptor that is the master's.
// With --notices the master's messages come to a socket at that path, otherwise to an abstract one.
//
// The program is the master. It gives the keeper every descriptor that its service lives by, in the way it
// would give them to systemd (FDSTORE=1 in sd_notify(3)); when it ends otherwise than by its own decision,
// the next one is started with all of them (LISTEN_FDS and LISTEN_FDNAMES in sd_listen_fds(3)). One that has
// been ready and does not say WATCHDOG=1 for so long (default 1000; 0: never mind) is killed first. What it
// has started lives on, and is waited for here when it ends.
//
// What the master says of the service is passed on to the service manager above, if there is one.
//
// It has no state but these descriptors, opens nothing, and knows nothing of what they are. It ends as its
// master does: when that has said STOPPING=1, has ended with 0, has never been ready, or has been told to end
// by a signal. With 75 it asks to be started anew, from what the program's file has become.
//
// SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR2, SIGTTIN and SIGTTOU are passed on to the master.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#include "../affinity.h"
#include "../clock.h"
#include "../unique_fd.h"
#include "manager.h"
#include "notices.h"
#include "store.h"

namespace {

using spillway::UniqueFd;
using spillway::keeper::Notice;
using spillway::keeper::Notices;
using spillway::keeper::Store;

constexpr int own_failure = 125;
constexpr int start_anew = 75;  // EX_TEMPFAIL
constexpr int first_passed = 3; // SD_LISTEN_FDS_START, sd_listen_fds(3)

// Milliseconds: what a master has to live for the next one to be started at once, and the longest pause.
constexpr std::int64_t long_life = 1000;
constexpr std::int64_t longest_pause = 1000;

constexpr int passed_on[] = {SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR2, SIGTTIN, SIGTTOU};

void say(const std::string &text) {
  std::string line = "spillway-keeper: " + text + "\n";
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
}

[[noreturn]] void give_up(const std::string &what) {
  say(what);
  std::exit(own_failure);
}

[[noreturn]] void give_up_system(const std::string &what) { give_up(what + ": " + std::strerror(errno)); }

// Milliseconds of CLOCK_MONOTONIC.
std::int64_t now() { return static_cast<std::int64_t>(spillway::monotonic_nanoseconds() / 1'000'000); }

// False for what is no number, or a negative one.
template <typename Number> bool read_number(std::string_view text, Number &value) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value >= 0;
}

class Keeper {
public:
  Keeper(char **program, std::int64_t watchdog, const char *once, const char *path,
         const std::vector<int> &cpus)
      : program_(program), watchdog_(watchdog), once_(once) {
    ::sigemptyset(&before_);
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGCHLD);
    for (int signal : passed_on)
      ::sigaddset(&mask, signal);
    ::sigprocmask(SIG_BLOCK, &mask, &before_);
    // A reader of the terminal that has gone is no reason to end.
    ::signal(SIGPIPE, SIG_IGN);
    signals_.reset(::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK));
    timer_.reset(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    auto notices = Notices::open(path);
    if (!notices.ok()) {
      errno = notices.failure().error;
      give_up_system(notices.failure().syscall);
    }
    notices_ = std::move(notices.value());
    if (!signals_.valid() || !timer_.valid() || !epoll_.valid())
      give_up_system("cannot wait for events");
    for (int fd : {signals_.get(), timer_.get(), notices_.fd()}) {
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fd;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
        give_up_system("epoll_ctl");
    }
    auto allowed = spillway::affinity::allowed();
    if (!cpus.empty() && allowed.ok()) {
      before_cpus_ = allowed.value();
      // Those that are offline by now are no reason not to start.
      spillway::affinity::set_thread(0, cpus);
    }
    // It holds what the whole service has: several descriptors for each worker.
    if (::getrlimit(RLIMIT_NOFILE, &before_files_) == 0) {
      rlimit all{before_files_.rlim_max, before_files_.rlim_max};
      ::setrlimit(RLIMIT_NOFILE, &all);
    }
    // What a master leaves behind is this process's to wait for.
    if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
      give_up_system("prctl(PR_SET_CHILD_SUBREAPER)");
  }

  [[noreturn]] void run() {
    start();
    for (;;) {
      epoll_event events[4];
      int count = ::epoll_wait(epoll_.get(), events, 4, -1);
      if (count < 0 && errno != EINTR)
        give_up_system("epoll_wait");
      hear_all();
      read_signals();
      look_at_the_time();
    }
  }

private:
  [[noreturn]] void end(int code) {
    notices_.remove();
    std::exit(code);
  }

  // --- the master's life ---

  void start() {
    pid_t child = ::fork();
    if (child == 0)
      become_master();
    // What the first one has been given is nobody else's.
    if (child > 0 && once_) {
      // Whoever reads from it waits for its end.
      const char *descriptor = std::getenv(once_);
      if (int fd = 0; descriptor && read_number(descriptor, fd))
        ::close(fd);
      ::unsetenv(once_);
      once_ = nullptr;
    }
    if (child < 0) {
      say(std::string("cannot start the master: ") + std::strerror(errno));
      start_at_ = now() + longest_pause;
      set_timer();
      return;
    }
    // Whichever of the two comes first: a signal for the terminal's own group must not reach the master
    // twice.
    ::setpgid(child, child);
    master_ = child;
    started_at_ = now();
    start_at_ = 0;
    alive_at_ = 0;
    stopping_ = false;
    set_timer();
  }

  [[noreturn]] void become_master() {
    ::setpgid(0, 0);
    ::signal(SIGPIPE, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &before_, nullptr);
    if (!before_cpus_.empty())
      spillway::affinity::set_thread(0, before_cpus_);
    pass_descriptors();
    ::setrlimit(RLIMIT_NOFILE, &before_files_);
    ::setenv("NOTIFY_SOCKET", notices_.address().c_str(), 1);
    ::setenv("SPILLWAY_KEEPER", std::to_string(::getppid()).c_str(), 1);
    if (watchdog_ > 0) {
      ::setenv("WATCHDOG_USEC", std::to_string(watchdog_ * 1000).c_str(), 1);
      ::setenv("WATCHDOG_PID", std::to_string(::getpid()).c_str(), 1);
    } else {
      ::unsetenv("WATCHDOG_USEC");
      ::unsetenv("WATCHDOG_PID");
    }
    ::execvp(program_[0], program_);
    say(std::string("cannot run '") + program_[0] + "': " + std::strerror(errno));
    ::_exit(own_failure);
  }

  // Everything that is stored, from descriptor 3 on, in the order of the names.
  void pass_descriptors() {
    const auto &entries = store_.entries();
    int count = static_cast<int>(entries.size());
    std::string names;
    // Out of the way first: one of them may have the number of another's place.
    std::vector<int> aside;
    for (const auto &entry : entries) {
      int fd = ::fcntl(entry.fd.get(), F_DUPFD_CLOEXEC, first_passed + count);
      if (fd < 0)
        give_up_system("cannot pass the descriptors on");
      aside.push_back(fd);
      names += (names.empty() ? "" : ":") + entry.name;
    }
    for (int index = 0; index < count; index++)
      if (::dup2(aside[static_cast<std::size_t>(index)], first_passed + index) < 0)
        give_up_system("cannot pass the descriptors on");
    if (count == 0)
      return;
    ::setenv("LISTEN_FDS", std::to_string(count).c_str(), 1);
    ::setenv("LISTEN_FDNAMES", names.c_str(), 1);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  }

  void ended(int status) {
    std::int64_t lived = now() - started_at_;
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    pid_t gone = master_;
    master_ = 0;
    if (told_to_end_ || (code != start_anew && (stopping_ || code == 0 || !proven_)))
      end(code);
    pause_ = code == start_anew || lived >= long_life
                 ? 0
                 : std::clamp<std::int64_t>(pause_ * 2, 100, longest_pause);
    std::string how = code == start_anew ? "asks to be started anew"
                      : WIFEXITED(status)
                          ? "has ended with exit code " + std::to_string(code)
                          : std::string("was ended by signal ") + ::strsignal(WTERMSIG(status));
    say("the master (process " + std::to_string(gone) + ") " + how + "; the next one is started" +
        (pause_ ? " in " + std::to_string(pause_) + " ms" : ""));
    if (pause_ == 0) {
      start();
      return;
    }
    start_at_ = now() + pause_;
    set_timer();
  }

  // --- events ---

  void hear_all() {
    for (Notice notice; notices_.receive(notice);)
      hear(notice);
  }

  void hear(Notice &notice) {
    // Anybody may write to an abstract socket; a worker has the variable, and nothing to say.
    if (notice.from != master_ || master_ == 0)
      return;
    manager_.tell(notice.news);
    if (notice.ready)
      proven_ = true;
    if (notice.stopping)
      stopping_ = true;
    if (notice.cut)
      say("a descriptor cannot be kept: this process may not have more of them (RLIMIT_NOFILE)");
    if (notice.ready || notice.alive) {
      alive_at_ = now();
      set_timer();
    }
    if (notice.remove)
      store_.remove(notice.name);
    if (!notice.store)
      return;
    for (auto &fd : notice.descriptors)
      if (!store_.put(notice.name, std::move(fd)))
        say("no more than " + std::to_string(Store::most) + " descriptors can be stored");
  }

  void read_signals() {
    signalfd_siginfo info{};
    while (::read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
      int signal = static_cast<int>(info.ssi_signo);
      if (signal != SIGCHLD)
        pass_on(signal);
    }
    for (;;) {
      int status = 0;
      pid_t child = ::waitpid(-1, &status, WNOHANG);
      if (child <= 0)
        return;
      if (child != master_)
        continue;
      // What it has said last counts before its end does.
      hear_all();
      ended(status);
    }
  }

  void pass_on(int signal) {
    bool ends = signal == SIGTERM || signal == SIGINT || signal == SIGQUIT;
    // Between two masters there is nobody who could close anything.
    if (master_ == 0 && ends)
      end(128 + signal);
    told_to_end_ = told_to_end_ || ends;
    if (master_ > 0)
      ::kill(master_, signal);
  }

  void look_at_the_time() {
    std::uint64_t expired = 0;
    if (::read(timer_.get(), &expired, sizeof(expired)) != static_cast<ssize_t>(sizeof(expired)))
      return;
    if (start_at_ != 0 && now() >= start_at_) {
      start();
      return;
    }
    if (is_watched() && now() >= alive_at_ + watchdog_) {
      say("the master (process " + std::to_string(master_) + ") has not answered for " +
          std::to_string(watchdog_) + " ms and is killed");
      ::kill(master_, SIGKILL);
      alive_at_ = 0;
    }
    set_timer();
  }

  bool is_watched() const { return master_ > 0 && watchdog_ > 0 && alive_at_ != 0 && !stopping_; }

  // For whatever is due next; none: it is off.
  void set_timer() {
    std::int64_t due = start_at_ != 0 ? start_at_ : is_watched() ? alive_at_ + watchdog_ : 0;
    itimerspec when{};
    when.it_value.tv_sec = due / 1000;
    when.it_value.tv_nsec = due % 1000 * 1'000'000;
    ::timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr);
  }

  char **program_;
  std::int64_t watchdog_;
  const char *once_;
  std::vector<int> before_cpus_; // where it could have run without --cpus
  sigset_t before_;
  rlimit before_files_{};
  UniqueFd signals_, timer_, epoll_;
  spillway::keeper::Manager manager_;
  Notices notices_;
  Store store_;
  pid_t master_ = 0;
  std::int64_t started_at_ = 0;
  std::int64_t alive_at_ = 0; // when it was heard of last, since it was ready
  std::int64_t start_at_ = 0; // when the next one is to be started
  std::int64_t pause_ = 0;
  bool proven_ = false;      // one of them has been ready
  bool stopping_ = false;    // this one ends by its own decision
  bool told_to_end_ = false; // by a signal that was passed on: however it ends then, no other follows
};

bool read_list(std::string_view text, std::vector<int> &list) {
  while (!text.empty()) {
    auto comma = text.find(',');
    if (int value = 0; read_number(text.substr(0, comma), value))
      list.push_back(value);
    else
      return false;
    text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
  }
  return !list.empty();
}

} // namespace

int main(int argc, char **argv) {
  std::int64_t watchdog = 1000;
  const char *once = nullptr, *path = nullptr;
  std::vector<int> cpus;
  int index = 1;
  for (; index + 1 < argc && std::string_view(argv[index]) != "--"; index += 2) {
    std::string_view option = argv[index];
    bool known = true;
    if (option == "--once")
      once = argv[index + 1];
    else if (option == "--notices")
      path = argv[index + 1];
    else if (option == "--watchdog")
      known = read_number(argv[index + 1], watchdog);
    else if (option == "--cpus")
      known = read_list(argv[index + 1], cpus);
    else
      known = false;
    if (!known)
      give_up("--watchdog takes milliseconds, --once a name, --cpus numbers, --notices a path, and there is "
              "no other option");
  }
  if (index + 1 >= argc || std::string_view(argv[index]) != "--")
    give_up(
        "usage: spillway-keeper [--watchdog MILLISECONDS] [--once NAME] [--cpus N,N,...] [--notices PATH] "
        "-- program [argument...]");
  Keeper(argv + index + 1, watchdog, once, path, cpus).run();
}
