/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * belfryd: arguments, signals, start, stop. Not for what it serves: lib/target.
 *
 * Exit codes: 0 stopped by a signal, all I/O done; 1 failed (configuration, socket taken, a disk that hangs); 2 bad usage.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "belfry/log.h"
#include "belfry/target.h"

#include "belfryd.h"

#define FEW_FILES 1024

static struct reactor_fd signals;

static void
usage(FILE *f)
{
	fputs("usage: belfryd [options]\n"
	      "Serve NVMe controllers to virtual machines over vfio-user.\n\n"
	      "  -m, --cores MASK|LIST   cores to poll on: 0x3 is a mask, 0,2-3 a list\n"
	      "                          (default: the first core this process may use)\n"
	      "  -r, --rpc-socket PATH   JSON-RPC socket (default " DEFAULT_SOCKET
	      "); may be given twice\n"
	      "  -c, --json FILE         load this configuration first (--config is the same)\n"
	      "      --wait-for-rpc      begin only at framework_start_init\n"
	      "      --idle adaptive|poll  sleep when there is nothing to do (the default), or never\n"
	      "      --spin-us N         adaptive: spin this long after the last work (default 1000)\n"
	      "      --arena-size SIZE   address space for each client's memory, such as 256G (the default)\n"
	      "  -L, --log-level LEVEL   ERROR, WARNING, NOTICE (default), INFO, DEBUG\n"
	      "      --log-flag FLAG     with DEBUG: messages of this part (or all); may be repeated\n"
	      "  -h, --help              this text\n"
	      "  -V, --version           the version\n\n"
	      "Exit codes: 0 stopped by a signal or over RPC; 1 failure; 2 bad usage. See belfryd(8).\n",
	      f);
}

static void
signals_ready(struct reactor_fd *f, uint32_t events)
{
	static bool stopping;
	struct signalfd_siginfo si;

	while (read(f->fd, &si, sizeof(si)) == sizeof(si)) {
		if (si.ssi_signo == SIGUSR1) {
			log_notice("SIGUSR1: nothing to do");
		} else if (stopping) {
			log_notice("stopping already");
		} else {
			stopping = true;
			log_notice("SIG%s: stopping",
				   sigabbrev_np((int)si.ssi_signo));
			target_stop(0);
		}
	}
}

/* Before any thread is made: they all inherit the mask. */
static int
signals_open(void)
{
	struct sigaction hup;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGQUIT);
	/* nohup(1) ignores it; blocked, it would be pending all the same */
	if (sigaction(SIGHUP, NULL, &hup) || hup.sa_handler != SIG_IGN)
		sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGUSR1);
	signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL))
		return -errno;
	signals.fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	signals.events = EPOLLIN;
	signals.ready = signals_ready;
	return signals.fd < 0 ? -errno : 0;
}

static void
raise_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl))
		return;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl))
		log_warn("cannot raise the limit of open files: %m");
	if (rl.rlim_max < FEW_FILES)
		log_warn(
			"no more than %llu files may be open, and each client takes one for each of its interrupts and pieces of memory: raise the limit (ulimit -Hn, or LimitNOFILE= in a unit of systemd)",
			(unsigned long long)rl.rlim_max);
}

/*
 * One that polls takes its core's time whole: two daemons on a core are seldom meant. The name of each core, held until
 * we end, lives in the abstract namespace: it needs no folder and outlives nobody.
 */
static void
claim_cores(const struct options *o)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	unsigned i;
	int fd;

	for (i = 0; i < o->ncores; i++) {
		int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
				 "belfryd/core/%u", o->cores[i]);
		socklen_t len = offsetof(struct sockaddr_un, sun_path) + 1 +
				(unsigned)n;

		fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
		if (fd < 0 || !bind(fd, (struct sockaddr *)&addr, len))
			continue;
		if (errno == EADDRINUSE)
			log_notice(
				"core %u: another belfryd is there, and each takes time from the other; -m chooses cores",
				o->cores[i]);
		close(fd);
	}
}

static void
overdue(int sig)
{
	static const char text[] =
		"belfryd: a blocking call does not end, exiting without it\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

static void
target_ready(void)
{
	log_notice("belfryd " BELFRY_VERSION " is ready");
	notify("READY=1\nSTATUS=serving");
}

static void
target_stopping(void)
{
	notify("STOPPING=1");
}

static int
run(struct options *o)
{
	struct reactor_config rc = {
		.cores = o->cores,
		.ncores = o->ncores,
		.idle = o->idle,
		.spin_us = o->spin_us,
	};
	int err, code = 1;

	err = signals_open();
	if (err) {
		log_error("cannot take signals: %s", strerror(-err));
		return 1;
	}
	raise_nofile();
	claim_cores(o);
	err = reactors_init(&rc);
	if (err) {
		log_error("cannot start the reactors (-m): %s", strerror(-err));
		goto close_signals;
	}
	err = reactor_fd_add(reactor_get(0), &signals);
	if (err) {
		log_error("cannot take signals: %s", strerror(-err));
		goto fini_reactors;
	}
	o->target.ready = target_ready;
	o->target.stopping = target_stopping;
	if (!target_start(&o->target)) {
		code = reactors_run();
		target_fini();
	}
	reactor_fd_del(&signals);
fini_reactors:
	/* workers may be inside a call that never returns */
	signal(SIGALRM, overdue);
	alarm(10);
	reactors_fini();
	alarm(0);
close_signals:
	close(signals.fd);
	return code;
}

int
main(int argc, char **argv)
{
	struct options o = { .idle = REACTOR_IDLE_ADAPTIVE };
	static const struct option longs[] = {
		{ "cores", required_argument, NULL, 'm' },
		{ "rpc-socket", required_argument, NULL, 'r' },
		{ "json", required_argument, NULL, 'c' },
		{ "config", required_argument, NULL, 'c' },
		{ "log-level", required_argument, NULL, 'L' },
		{ "log-flag", required_argument, NULL, OPT_FLAG },
		{ "idle", required_argument, NULL, OPT_IDLE },
		{ "spin-us", required_argument, NULL, OPT_SPIN },
		{ "arena-size", required_argument, NULL, OPT_ARENA },
		{ "wait-for-rpc", no_argument, NULL, OPT_WAIT },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	int opt;

	while ((opt = getopt_long(argc, argv, "m:r:c:L:hV", longs, NULL)) !=
	       -1) {
		switch (opt) {
		case 'h':
			usage(stdout);
			return 0;
		case 'V':
			puts("belfryd " BELFRY_VERSION);
			return 0;
		case '?':
			fputs("try belfryd --help\n", stderr);
			return 2;
		}
		if (!option_set(&o, opt, optarg))
			return 2;
	}
	if (optind < argc) {
		fprintf(stderr,
			"belfryd: unexpected argument '%s'; try --help\n",
			argv[optind]);
		return 2;
	}
	if (!options_default(&o))
		return 2;
	return run(&o);
}
