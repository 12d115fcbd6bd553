/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much belfry-perf can drive when the target costs nothing: the real program
 * against a peer that completes at once. Not a measure of belfryd.
 *
 *   perf_selftest [SECONDS]     prints IOPS at queue depth 128 and one queue, legacy and iommufd
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"
#include "fake/peer.h"

static int
listen_at(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	must(strlen(path) < sizeof(sun.sun_path), "TMPDIR is too long");
	strcpy(sun.sun_path, path);
	must(fd >= 0 && !bind(fd, (struct sockaddr *)&sun, sizeof(sun)) &&
		     !listen(fd, 1),
	     path);
	return fd;
}

/* belfry-perf beside us in the tree; its output comes through a pipe. */
static pid_t
start_perf(const char *self, const char *path, const char *mode, char *seconds,
	   int *out)
{
	char program[4096];
	int fds[2];
	pid_t pid;

	snprintf(program, sizeof(program), "%.*s../../bin/belfry-perf",
		 (int)(strrchr(self, '/') ? strrchr(self, '/') + 1 - self : 0),
		 self);
	/* The tree is B/test/bench/perf_selftest and B/bin/belfry-perf. */
	must(!access(program, X_OK), "belfry-perf is not built: make all");
	must(!pipe(fds), "pipe");
	pid = fork();
	must(pid >= 0, "fork");
	if (!pid) {
		dup2(fds[1], STDOUT_FILENO);
		close(fds[0]);
		close(fds[1]);
		execl(program, program, "-s", path, "--mode", mode, "--cpu",
		      "1", "--time", seconds, "--json", (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	*out = fds[0];
	return pid;
}

static double
iops_of(int fd)
{
	char text[4096];
	size_t len = 0;
	const char *at;
	ssize_t n;

	while (len < sizeof(text) - 1 &&
	       (n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	text[len] = 0;
	close(fd);
	at = strstr(text, "\"iops\":");
	must(at, "belfry-perf gave no result");
	return strtod(at + 7, NULL);
}

static double
measure(const char *self, const char *mode, char *seconds)
{
	const struct peer_opts opts = { .iommufd = true,
					.blocks = 1ull << 31,
					.cpu = 1 };
	char dir[] = "/tmp/belfry-bench-XXXXXX", path[64];
	struct pollfd p = { .events = POLLIN };
	struct peer *peer;
	int fd, out, status;
	double iops;
	pid_t pid;

	must(mkdtemp(dir), "mkdtemp");
	snprintf(path, sizeof(path), "%s/cntrl", dir);
	p.fd = listen_at(path);
	pid = start_perf(self, path, mode, seconds, &out);
	must(poll(&p, 1, 10000) == 1, "belfry-perf does not connect");
	fd = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
	must(fd >= 0, "accept");
	peer = peer_start(&opts, fd);
	must(peer, "peer");
	iops = iops_of(out);
	must(waitpid(pid, &status, 0) == pid && !status, "belfry-perf failed");
	peer_stop(peer);
	close(p.fd);
	unlink(path);
	rmdir(dir);
	return iops;
}

int
main(int argc, char **argv)
{
	char *seconds = argc > 1 ? argv[1] : (char *)"2";

	must(sysconf(_SC_NPROCESSORS_ONLN) > 1, "that takes two CPUs");
	printf("%.0f\n", measure(argv[0], "legacy", seconds));
	printf("%.0f\n", measure(argv[0], "iommufd", seconds));
	return 0;
}
