/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The RPC socket: lock file, connections, non-blocking both ways. Not for JSON: peer.c and request.c.
 *
 * A connection is freed by its timer or by rpc_close() only: a handler that answers may be deep in its own
 * parser when a write fails.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "belfry/log.h"

#include "internal.h"

#define OUT_HIGH (1024 * 1024) /* a peer that does not read is not read from */
#define OUT_KEPT \
	(64 *    \
	 1024) /* a buffer for replies that is larger goes when they are gone */
#define ROUND_NS \
	500000ull /* requests are started for so long at a time: others run on this reactor */
#define ACCEPT_PAUSE_NS 100000000ull

struct rpc_server {
	struct reactor *reactor;
	struct reactor_fd listen;
	struct reactor_timer resume; /* accept() had no descriptors left */
	struct list conns;
	unsigned nconns;
	bool starved; /* said so already */
	int lock_fd;
	char *path;
	char *lock_path;
};

struct conn {
	struct rpc_peer peer;
	struct list node;
	struct rpc_server *server;
	struct reactor_fd fd;
	struct reactor_timer again; /* more to parse, or time to go */
	char *out;
	size_t out_start, out_len, out_cap;
	bool eof;  /* nothing more to read */
	bool dead; /* nobody there */
};

static void
conn_free(struct conn *c)
{
	reactor_timer_stop(&c->again);
	reactor_fd_del(&c->fd);
	close(c->fd.fd);
	rpc_peer_fini(&c->peer);
	list_remove(&c->node);
	c->server->nconns--;
	free(c->out);
	free(c);
}

static void
conn_again(struct conn *c)
{
	/* no memory for a timer: the next event of the socket comes here too */
	(void)reactor_timer_start(c->server->reactor, &c->again, 1);
}

static bool
conn_over(const struct conn *c)
{
	return c->dead || (c->peer.broken && !c->peer.pending &&
			   c->out_start == c->out_len);
}

static bool
conn_full(const struct conn *c)
{
	return c->out_len - c->out_start > OUT_HIGH;
}

static bool
conn_paused(const struct conn *c)
{
	return c->peer.pending >= RPC_MAX_PENDING || conn_full(c);
}

/* What the socket shall tell us now; frees nothing. */
static void
conn_update(struct conn *c)
{
	uint32_t events = 0;

	if (conn_over(c)) {
		conn_again(c);
		return;
	}
	if (!c->eof && !c->peer.broken && !conn_paused(c))
		events |= EPOLLIN;
	if (c->out_len > c->out_start)
		events |= EPOLLOUT;
	if (events != c->fd.events)
		reactor_fd_mod(&c->fd, events);
}

static void
conn_flush(struct conn *c)
{
	ssize_t n;

	while (!c->dead && c->out_start < c->out_len) {
		n = send(c->fd.fd, c->out + c->out_start,
			 c->out_len - c->out_start,
			 MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n > 0)
			c->out_start += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return;
		else
			c->dead = true;
	}
	c->out_start = c->out_len = 0;
	if (c->out_cap > OUT_KEPT) {
		free(c->out);
		c->out = NULL;
		c->out_cap = 0;
	}
}

static bool
out_room(struct conn *c, size_t len)
{
	size_t cap = c->out_cap ? c->out_cap : 4096;
	char *out;

	if (c->out_start) {
		memmove(c->out, c->out + c->out_start,
			c->out_len - c->out_start);
		c->out_len -= c->out_start;
		c->out_start = 0;
	}
	while (cap - c->out_len < len) {
		cap *= 2;
		if (cap > 2ul * RPC_MAX_REPLY + OUT_HIGH * 4)
			return false;
	}
	if (cap == c->out_cap)
		return true;
	out = realloc(c->out, cap);
	if (!out)
		return false;
	c->out = out;
	c->out_cap = cap;
	return true;
}

static void
conn_send(struct rpc_peer *p, const char *text, size_t len)
{
	struct conn *c = container_of(p, struct conn, peer);

	if (c->dead)
		return;
	if (!out_room(c, len + 1)) {
		log_warn("rpc: a client does not read its replies, dropped");
		c->dead = true;
		conn_update(c);
		return;
	}
	memcpy(c->out + c->out_len, text, len);
	c->out[c->out_len + len] = '\n';
	c->out_len += len + 1;
	conn_flush(c);
	conn_update(c);
}

/* There may be room now for requests that were read already, a batch may go on, or nothing is left to wait for. */
static void
conn_settled(struct rpc_peer *p)
{
	struct conn *c = container_of(p, struct conn, peer);

	if (c->eof || c->peer.broken || c->peer.batch_due ||
	    c->peer.seen < c->peer.len - c->peer.start)
		conn_again(c);
}

/* One read at most, so that one client cannot hold the reactor. */
static void
conn_read(struct conn *c)
{
	size_t room;
	ssize_t n;
	char *to;

	to = rpc_peer_room(&c->peer, &room);
	if (!to)
		return;
	n = recv(c->fd.fd, to, room, MSG_DONTWAIT);
	if (n > 0) {
		rpc_peer_filled(&c->peer, (size_t)n);
	} else if (n == 0) {
		c->eof = true;
	} else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
		c->dead = true;
	}
}

/* One at a time: a long reply of one may be what stops us. */
static void
conn_work(struct conn *c)
{
	uint64_t start = util_now_ns();
	bool more = true;

	while (more && !c->dead && !conn_full(c) &&
	       util_now_ns() - start < ROUND_NS / c->server->nconns)
		more = rpc_peer_pump(&c->peer, 1);
	if (more && !c->dead && !conn_full(c))
		conn_again(c);
	else if (c->eof && !c->peer.broken &&
		 c->peer.seen == c->peer.len - c->peer.start)
		rpc_peer_eof(&c->peer);
	conn_update(c);
}

static void
conn_ready(struct reactor_fd *f, uint32_t events)
{
	struct conn *c = container_of(f, struct conn, fd);

	/* both directions are shut: nobody will read an answer */
	if ((events & (EPOLLERR | EPOLLHUP)) && !(events & EPOLLIN))
		c->dead = true;
	if (events & EPOLLOUT)
		conn_flush(c);
	if ((events & EPOLLIN) && !c->eof && !c->peer.broken && !conn_paused(c))
		conn_read(c);
	else if (events & EPOLLHUP)
		c->dead = true;
	if (c->dead)
		conn_free(c);
	else
		conn_work(c);
}

static void
conn_timer(struct reactor_timer *t)
{
	struct conn *c = container_of(t, struct conn, again);

	if (conn_over(c))
		conn_free(c);
	else
		conn_work(c);
}

static void
refuse(int fd)
{
	static const char text[] =
		"{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32603,"
		"\"message\":\"Internal error: too many connections\"}}\n";

	(void)!send(fd, text, sizeof(text) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static void
server_resume(struct reactor_timer *t)
{
	struct rpc_server *s = container_of(t, struct rpc_server, resume);

	reactor_fd_mod(&s->listen, EPOLLIN);
}

static void
server_ready(struct reactor_fd *f, uint32_t events)
{
	struct rpc_server *s = container_of(f, struct rpc_server, listen);
	struct conn *c;
	int fd;

	fd = accept4(f->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno != EMFILE && errno != ENFILE && errno != ENOMEM &&
		    errno != ENOBUFS)
			return;
		if (!s->starved)
			log_warn(
				"%s: cannot accept: %m (see ulimit -n); trying again until it goes",
				s->path);
		s->starved = true;
		if (!reactor_timer_start(s->reactor, &s->resume,
					 ACCEPT_PAUSE_NS))
			reactor_fd_mod(f, 0);
		return;
	}
	s->starved = false;
	c = s->nconns < RPC_MAX_CONNS ? calloc(1, sizeof(*c)) : NULL;
	if (!c) {
		refuse(fd);
		return;
	}
	rpc_peer_init(&c->peer, conn_send);
	c->peer.settled = conn_settled;
	c->server = s;
	c->fd = (struct reactor_fd){ .fd = fd,
				     .events = EPOLLIN,
				     .ready = conn_ready };
	c->again.fire = conn_timer;
	if (reactor_fd_add(s->reactor, &c->fd)) {
		free(c);
		refuse(fd);
		return;
	}
	list_push_back(&s->conns, &c->node);
	s->nconns++;
}

/*
 * Take the lock. The file may be unlinked by its last holder between our open and our flock: then what
 * we locked is not what others will see, and we try again.
 */
static int
lock_file(const char *path)
{
	struct stat a, b;
	int fd, err;

	for (;;) {
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
			  0600);
		if (fd < 0)
			return -errno;
		if (flock(fd, LOCK_EX | LOCK_NB)) {
			err = -errno;
			close(fd);
			return err;
		}
		if (!fstat(fd, &a) && !stat(path, &b) && a.st_ino == b.st_ino &&
		    a.st_dev == b.st_dev)
			break;
		close(fd);
	}
	if (ftruncate(fd, 0) || dprintf(fd, "%d\n", (int)getpid()) < 0)
		log_debug(rpc, "rpc: cannot write our pid into %s: %m", path);
	return fd;
}

/*
 * A socket at @path, 0600 from its first moment: bound under another name, then renamed, which also
 * replaces what a dead daemon left (we have the lock).
 */
static int
bind_socket(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct stat st;
	int fd, err;

	if (!lstat(path, &st) && !S_ISSOCK(st.st_mode))
		return -EEXIST;
	_Static_assert(RPC_MAX_PATH + sizeof(".new") == sizeof(addr.sun_path),
		       "the longest path");
	if (snprintf(addr.sun_path, sizeof(addr.sun_path), "%s.new", path) >=
	    (int)sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	unlink(addr.sun_path);
	/* Linux gives the socket's file the mode of the descriptor, less the umask */
	if (fchmod(fd, 0600) ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		goto failed;
	if (chmod(addr.sun_path, 0600) || listen(fd, RPC_MAX_CONNS) ||
	    rename(addr.sun_path, path)) {
		err = -errno;
		unlink(addr.sun_path);
		close(fd);
		return err;
	}
	return fd;
failed:
	err = -errno;
	close(fd);
	return err;
}

/* Does a server without our lock answer there? */
static bool
somebody_listens(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	bool yes;
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return false;
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	yes = !connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
	      errno == EAGAIN;
	close(fd);
	return yes;
}

int
rpc_listen(struct reactor *control, const char *path, struct rpc_server **out)
{
	struct rpc_server *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (!s)
		return -ENOMEM;
	s->reactor = control;
	list_init(&s->conns);
	s->resume.fire = server_resume;
	s->path = strdup(path);
	if (!s->path || asprintf(&s->lock_path, "%s.lock", path) < 0)
		goto free_server;
	s->lock_fd = lock_file(s->lock_path);
	if (s->lock_fd < 0) {
		err = s->lock_fd;
		goto free_server;
	}
	if (somebody_listens(path)) {
		err = -EWOULDBLOCK;
		goto unlock;
	}
	s->listen =
		(struct reactor_fd){ .events = EPOLLIN, .ready = server_ready };
	s->listen.fd = err = bind_socket(path);
	if (err < 0)
		goto unlock;
	err = reactor_fd_add(control, &s->listen);
	if (err)
		goto unbind;
	*out = s;
	return 0;
unbind:
	close(s->listen.fd);
	unlink(path);
unlock:
	unlink(s->lock_path);
	close(s->lock_fd);
free_server:
	free(s->lock_path);
	free(s->path);
	free(s);
	return err;
}

void
rpc_stop(struct rpc_server *s)
{
	struct conn *c, *next;

	if (s->listen.fd < 0)
		return;
	reactor_timer_stop(&s->resume);
	reactor_fd_del(&s->listen);
	unlink(s->path);
	close(s->listen.fd);
	s->listen.fd = -1;
	list_for_each_safe(c, next, &s->conns, node) {
		conn_flush(c);
		conn_free(c);
	}
}

void
rpc_close(struct rpc_server *s)
{
	if (!s)
		return;
	rpc_stop(s);
	unlink(s->lock_path);
	close(s->lock_fd);
	free(s->lock_path);
	free(s->path);
	free(s);
}
