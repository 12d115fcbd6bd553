/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sockets: listen on a path, accept, move bytes and descriptors. Not for messages.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "internal.h"

#define ACCEPT_RETRY_NS (100ull * 1000000)

/* ---- bytes and descriptors ---- */

/* Move the descriptors of @msg to @fds. */
static int
take_fds(struct msghdr *msg, int *fds, unsigned *nfds)
{
	int err = msg->msg_flags & MSG_CTRUNC ? -EPROTO : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c;
	     c = CMSG_NXTHDR(msg, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			fds[(*nfds)++] = fd;
		}
	}
	return *nfds > VU_MAX_FDS ? -EPROTO : err;
}

ssize_t
vu_sock_recv(int fd, void *buf, size_t len, int *fds, unsigned *nfds)
{
	union {
		char buf[CMSG_SPACE(VU_RECV_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { buf, len };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	ssize_t n;
	int err;

	do {
		n = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	err = take_fds(&msg, fds, nfds);
	return err ? err : n;
}

ssize_t
vu_sock_send(int fd, const void *buf, size_t len, int sendfd)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec iov = { (void *)buf, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (sendfd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &sendfd, sizeof(sendfd));
	}
	do {
		n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

struct vu_trash {
	struct work work;
	struct vu_session *s;
	unsigned nfds;
	int fds[];
};

static void
trash_close(struct work *w)
{
	struct vu_trash *t = container_of(w, struct vu_trash, work);

	for (unsigned i = 0; i < t->nfds; i++)
		close(t->fds[i]);
}

static void
trash_closed(struct work *w)
{
	struct vu_trash *t = container_of(w, struct vu_trash, work);

	if (t->s) {
		t->s->trash--;
		vu_session_kick(t->s);
	}
	free(t);
}

void
vu_trash_fds(struct vu_session *s, int *fds, unsigned nfds)
{
	struct vu_trash *t;
	unsigned n = 0;

	for (unsigned i = 0; i < nfds; i++)
		if (fds[i] >= 0)
			n++;
	if (!n)
		return;
	t = calloc(1, sizeof(*t) + n * sizeof(t->fds[0]));
	for (unsigned i = 0; i < nfds; i++) {
		if (fds[i] < 0)
			continue;
		if (t)
			t->fds[t->nfds++] = fds[i];
		else
			close(fds[i]);
	}
	if (!t)
		return;
	t->s = s;
	if (s)
		s->trash++;
	t->work.fn = trash_close;
	t->work.done = trash_closed;
	work_submit(WORK_CLOSE, &t->work);
}

/* ---- the path ---- */

/* Is the socket at @addr dead? 0: nobody listens. */
static int
probe(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = 0;

	if (fd < 0)
		return -errno;
	if (connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0)
		err = -EADDRINUSE;
	else if (errno == EAGAIN || errno == EPROTOTYPE)
		err = -EADDRINUSE; /* backlog full; another kind of socket */
	else if (errno != ECONNREFUSED && errno != ENOENT)
		err = -errno;
	close(fd);
	return err;
}

/* Take away what a dead daemon left at the path. */
static int
clear_path(const struct sockaddr_un *addr)
{
	struct stat st;
	int err;

	if (lstat(addr->sun_path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return -EEXIST;
	err = probe(addr);
	if (err)
		return err;
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/* Two daemons that find the same dead socket: the directory's lock decides. */
static int
lock_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path) + 1] = ".";
	int fd, err;

	if (slash) {
		size_t len = slash == path ? 1 : (size_t)(slash - path);

		memcpy(dir, path, len);
		dir[len] = '\0';
	}
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		err = errno == EWOULDBLOCK ? -EADDRINUSE : -errno;
		close(fd);
		return err;
	}
	return fd;
}

/* Nobody can connect before listen(), so the modes are right from the start. */
static int
bind_path(int fd, const struct sockaddr_un *addr,
	  const struct vu_listener_config *cfg, struct stat *st)
{
	const char *path = addr->sun_path;
	int err;

	err = clear_path(addr);
	if (err)
		return err;
	if (bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return -errno;
	if ((cfg->uid != -1 || cfg->gid != -1) &&
	    lchown(path, (uid_t)cfg->uid, (gid_t)cfg->gid) < 0)
		goto unlink_path;
	if (chmod(path, cfg->mode ? cfg->mode : 0600) < 0 ||
	    lstat(path, st) < 0 || listen(fd, 16) < 0)
		goto unlink_path;
	return 0;
unlink_path:
	err = -errno;
	unlink(path);
	return err;
}

int
vu_sock_bind(const struct vu_listener_config *cfg, struct stat *st)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = strlen(cfg->path);
	int fd, lock, err;

	if (!len)
		return -EINVAL;
	if (len >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	memcpy(addr.sun_path, cfg->path, len + 1);
	lock = lock_dir(cfg->path);
	if (lock < 0)
		return lock;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0) {
		err = -errno;
		goto unlock;
	}
	err = bind_path(fd, &addr, cfg, st);
	if (err)
		goto close_fd;
	close(lock);
	return fd;
close_fd:
	close(fd);
unlock:
	close(lock);
	return err;
}

void
vu_sock_unlink(const char *path, dev_t dev, ino_t ino)
{
	struct stat st;

	if (lstat(path, &st) == 0 && st.st_dev == dev && st.st_ino == ino)
		unlink(path);
}

int
vu_sock_accept(int fd, int *pid, int *uid)
{
	struct ucred cred = { .pid = -1, .uid = (uid_t)-1 };
	socklen_t len = sizeof(cred);
	int client;

	do {
		client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	} while (client < 0 && (errno == EINTR || errno == ECONNABORTED));
	if (client < 0)
		return -errno;
	if (getsockopt(client, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		cred.pid = -1;
	*pid = cred.pid;
	*uid = (int)cred.uid;
	return client;
}

/* ---- the listener ---- */

/* Take no more clients than may wait; those beyond stay in the backlog. */
static void
update_events(struct vu_listener *l)
{
	unsigned waiting = l->count - (l->active ? 1 : 0);
	bool in = !l->paused && waiting < VU_MAX_WAITING;
	uint32_t events = in ? EPOLLIN : 0;
	int err;

	if (l->stopping || l->rfd.events == events)
		return;
	err = reactor_fd_mod(&l->rfd, events);
	if (err)
		log_guest(LOG_ERROR, "%s: epoll: %s", l->cfg.path,
			  strerror(-err));
}

static void
accept_retry(struct reactor_timer *t)
{
	struct vu_listener *l = container_of(t, struct vu_listener, retry);

	l->paused = false;
	update_events(l);
}

static void
accept_ready(struct reactor_fd *f, uint32_t events)
{
	struct vu_listener *l = container_of(f, struct vu_listener, rfd);
	int pid, uid, fd, err;

	fd = vu_sock_accept(f->fd, &pid, &uid);
	err = fd < 0 ? fd : vu_session_create(l, fd, pid, uid);
	if (err && err != -EAGAIN) {
		/* No fds or memory now; the socket would stay readable. */
		log_guest(LOG_WARNING, "%s: no client can be accepted: %s",
			  l->cfg.path, strerror(-err));
		if (!reactor_timer_start(l->home, &l->retry, ACCEPT_RETRY_NS))
			l->paused = true;
	}
	update_events(l);
}

static void
listener_finish(struct reactor_msg *msg)
{
	struct vu_listener *l = container_of(msg, struct vu_listener, finish);
	void (*done)(void *arg) = l->done;
	void *arg = l->arg;

	free((char *)l->cfg.path);
	free(l);
	if (done)
		done(arg);
}

void
vu_listener_update(struct vu_listener *l)
{
	update_events(l);
	if (l->stopping && list_empty(&l->sessions))
		reactor_send(l->home, &l->finish);
}

int
vu_listen(struct reactor *home, const struct vu_listener_config *cfg,
	  struct vu_listener **out)
{
	struct vu_listener *l = calloc(1, sizeof(*l));
	struct stat st;
	int err = -ENOMEM;

	if (!l)
		return -ENOMEM;
	l->home = home;
	l->cfg = *cfg;
	l->cfg.path = strdup(cfg->path);
	list_init(&l->sessions);
	list_init(&l->held);
	l->retry.fire = accept_retry;
	l->finish.fn = listener_finish;
	l->rfd =
		(struct reactor_fd){ .events = EPOLLIN, .ready = accept_ready };
	if (!l->cfg.path)
		goto free_l;
	l->rfd.fd = err = vu_sock_bind(&l->cfg, &st);
	if (err < 0)
		goto free_path;
	l->st_dev = st.st_dev;
	l->st_ino = st.st_ino;
	err = reactor_fd_add(home, &l->rfd);
	if (err)
		goto close_fd;
	*out = l;
	return 0;
close_fd:
	vu_sock_unlink(l->cfg.path, l->st_dev, l->st_ino);
	close(l->rfd.fd);
free_path:
	free((char *)l->cfg.path);
free_l:
	free(l);
	return err;
}

void
vu_unlisten(struct vu_listener *l, void (*done)(void *arg), void *arg)
{
	struct vu_session *s;

	l->stopping = true;
	l->done = done;
	l->arg = arg;
	reactor_timer_stop(&l->retry);
	reactor_fd_del(&l->rfd);
	/* Unlinked first: a listener that is closed but still there looks dead. */
	vu_sock_unlink(l->cfg.path, l->st_dev, l->st_ino);
	/* With what unaccepted clients have sent. */
	vu_trash_fds(NULL, &l->rfd.fd, 1);
	list_for_each(s, &l->sessions, node)
		vu_disconnect(s, "the listener is being removed");
	vu_listener_update(l);
}
