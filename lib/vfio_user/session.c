/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One client, from accept to the last byte freed. Not for what it asks.
 *
 *   GREETING --VERSION--> SERVING --gone--> CLOSING --> DESTROYING --> DEAD
 *       \--device is being torn down--> HELD --free--/
 *
 * All steps are taken in session_step(), which only the loop calls: a socket that
 * is ready, a timer, or a kick.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "internal.h"

static void session_step(struct vu_session *s);

static void
kick_fn(struct reactor_msg *msg)
{
	struct vu_session *s = container_of(msg, struct vu_session, kick);

	s->kicked = false;
	session_step(s);
}

void
vu_session_kick(struct vu_session *s)
{
	if (s->kicked)
		return;
	s->kicked = true;
	reactor_send(s->l->home, &s->kick);
}

void
vu_complete(struct vu_session *s, int err)
{
	s->completed = true;
	s->result = err;
	vu_session_kick(s);
}

void
vu_opened(struct vu_session *s, void *dev, int err)
{
	s->opening = false;
	s->dev = err ? NULL : dev;
	vu_complete(s, err);
}

void
vu_closed(struct vu_session *s)
{
	s->closed = true;
	vu_session_kick(s);
}

static void
session_doom(struct vu_session *s, const char *why)
{
	if (s->doomed)
		return;
	s->doomed = true;
	log_guest(LOG_NOTICE, "%s: client %d dropped: %s", s->l->cfg.path,
		  s->pid, why);
}

void
vu_disconnect(struct vu_session *s, const char *why)
{
	if (s->state > VU_SERVING)
		return;
	session_doom(s, why);
	vu_session_kick(s);
}

/* ---- the end ---- */

static void
ioas_gone(void *arg)
{
	struct vu_session *s = arg;

	s->ioas_gone = true;
	vu_session_kick(s);
}

static void
irqs_closed(void *arg)
{
	vu_session_kick(arg);
}

static void
session_fault(void *arg)
{
	vu_disconnect(arg, "it truncated a file that it had mapped");
}

static void
session_destroy(struct vu_session *s)
{
	s->state = VU_DESTROYING;
	irq_set_destroy(s->irqs);
	s->irqs = NULL;
	if (!s->ioas) {
		s->ioas_gone = true;
		return;
	}
	ioas_on_fault(s->ioas, NULL, NULL);
	ioas_ctx_destroy(s->ioas, ioas_gone, s);
}

/* What the client has sent and we have not read may hold descriptors: then this close is theirs, too, and may hang. */
static void
socket_close(struct vu_session *s)
{
	char c;

	shutdown(s->rfd.fd, SHUT_RDWR); /* nothing comes after this */
	if (recv(s->rfd.fd, &c, 1, MSG_PEEK | MSG_DONTWAIT) > 0)
		vu_trash_fds(s, &s->rfd.fd, 1);
	else
		close(s->rfd.fd);
}

/* The client is lost: no more I/O on its socket. The message at hand stands. */
static void
session_drop(struct vu_session *s)
{
	reactor_timer_stop(&s->timer);
	reactor_fd_del(&s->rfd);
	socket_close(s);
	if (!list_empty(&s->held_node))
		list_remove(&s->held_node);
	vu_trash_fds(s, s->msg.fds, s->msg.nfds);
	s->msg.nfds = 0;
	s->state = VU_CLOSING;
}

/* A device that is still being opened is closed when it is there. */
static void
session_close(struct vu_session *s)
{
	if (s->opening)
		return;
	if (s->dev && !s->closing) {
		s->closing = true;
		s->l->cfg.ops->close(s->dev);
	}
	if (!s->dev || s->closed)
		session_destroy(s);
}

/* The device is free: it goes to whose VERSION came first, the others learn. */
static void
grant_next(struct vu_listener *l)
{
	struct vu_session *s;

	l->active = list_first(&l->held, struct vu_session, held_node);
	list_for_each(s, &l->held, held_node)
		vu_session_kick(s);
}

static void
session_free(struct vu_session *s)
{
	struct vu_listener *l = s->l;

	vu_msg_fini(&s->msg);
	vu_out_fini(&s->out);
	list_remove(&s->node);
	l->count--;
	if (l->active == s)
		grant_next(l);
	free(s);
	vu_listener_update(l);
}

/* ---- VERSION ---- */

static int
session_accept(struct vu_session *s)
{
	const struct vu_listener_config *cfg = &s->l->cfg;
	void *dev = NULL;
	int err;

	err = ioas_ctx_create(s->l->home,
			      s->caps.iommufd ? IOAS_IOMMUFD : IOAS_LEGACY,
			      &cfg->limits, &s->ioas);
	if (err) {
		s->ioas = NULL;
		return err;
	}
	err = irq_set_create(s->l->home, cfg->msix, &s->irqs);
	if (err) {
		s->irqs = NULL;
		return err;
	}
	ioas_on_fault(s->ioas, session_fault, s);
	irq_on_closed(s->irqs, irqs_closed, s);
	s->opening = true;
	err = cfg->ops->open(cfg->owner, s, s->ioas, s->irqs, &dev);
	if (err == -EINPROGRESS) /* vu_opened() comes, or has come already */
		return err;
	s->opening = false;
	s->dev = err ? NULL : dev;
	return err;
}

/*
 * VERSION is whole. -EBUSY: somebody is served; -EAGAIN: held until the one
 * before has been torn down.
 */
static int
session_greet(struct vu_session *s)
{
	struct vu_listener *l = s->l;
	int err;

	if (s->state == VU_GREETING) {
		err = vu_version_parse(s->msg.body, s->msg.kept, &s->caps);
		if (err || s->msg.kept != s->msg.len)
			return -EINVAL;
	}
	if (l->active && l->active != s) {
		if (l->active->state <= VU_SERVING && !l->active->doomed)
			return -EBUSY;
		if (s->state == VU_HELD)
			return -EAGAIN;
		reactor_timer_stop(&s->timer);
		s->state = VU_HELD;
		list_push_back(&l->held, &s->held_node);
		return -EAGAIN;
	}
	reactor_timer_stop(&s->timer);
	list_remove(&s->held_node);
	l->active = s;
	s->state = VU_SERVING;
	return session_accept(s);
}

static const char *
why_refused(int err)
{
	switch (err) {
	case -EBUSY:
		return "another client is being served";
	case -EACCES:
		return "no host is allowed";
	case -ENOMEM:
		return "no memory, or no address space for it (see ulimit -v, belfryd --arena-size)";
	case -EMFILE:
	case -ENFILE:
		return "too many open files (see ulimit -n)";
	default:
		return "its VERSION was refused";
	}
}

/* The first message has been handled: greet the client, or turn it away. */
static void
session_greeted(struct vu_session *s, int err)
{
	uint32_t maps = s->l->cfg.limits.max_extents;
	uint8_t buf[VU_VERSION_REPLY_MAX];
	size_t len, max = sizeof(buf);
	void *reply = NULL;

	if (!err) {
		/* QEMU receives into the buffer of its request. */
		if (s->caps.has_json)
			max = MIN(max, s->msg.len);
		len = vu_version_reply(&s->caps, s->caps.iommufd,
				       maps ? maps : VU_DEFAULT_DMA_MAPS, buf,
				       max);
		reply = vu_reply_alloc(s, len);
		if (reply)
			memcpy(reply, buf, len);
		else
			err = -ENOMEM;
	}
	vu_reply_seal(s, err);
	if (!err) {
		log_info("%s: client %d connected (%s)", s->l->cfg.path, s->pid,
			 s->caps.iommufd ? "iommufd" : "legacy");
		return;
	}
	vu_reply_flush(s); /* 16 bytes at most; lost if the client is */
	session_doom(s, why_refused(err));
}

/* ---- serving ---- */

static bool
is_greeting(const struct vu_session *s)
{
	return s->messages == 1;
}

static void
message_end(struct vu_session *s)
{
	vu_trash_fds(s, s->msg.fds, s->msg.nfds);
	vu_msg_fini(&s->msg);
}

/* The message at hand has its result. */
static void
message_answer(struct vu_session *s, int err)
{
	if (is_greeting(s)) {
		session_greeted(s, err);
	} else {
		if (err)
			log_guest(LOG_INFO, "%s: command %u: %s",
				  s->l->cfg.path, s->msg.hdr.command,
				  strerror(-err));
		vu_reply_seal(s, err);
	}
	message_end(s);
}

static void
message_result(struct vu_session *s, int err)
{
	if (err == -EINPROGRESS) {
		s->busy = true;
		return;
	}
	s->busy = false;
	message_answer(s, err);
}

/* A whole message. */
static void
message_handle(struct vu_session *s)
{
	const struct vu_hdr *hdr = &s->msg.hdr;
	int err;

	s->completed = false;
	/* those that clients send for their I/O are no news */
	if (hdr->command != VU_REGION_READ && hdr->command != VU_REGION_WRITE &&
	    hdr->command != VU_REGION_WRITE_MULTI)
		log_guest_debug(
			vfio_user,
			"%s: client %d: command %u, %u bytes, flags %#x",
			s->l->cfg.path, s->pid, hdr->command, hdr->msg_size,
			hdr->flags);
	if (!is_greeting(s)) {
		message_result(s, vu_msg_start(s));
		return;
	}
	err = -EINVAL;
	if (hdr->command == VU_VERSION &&
	    (hdr->flags & VU_F_TYPE_MASK) == VU_F_COMMAND)
		err = session_greet(s);
	if (s->state != VU_HELD)
		message_result(s, err);
}

static void
message_resume(struct vu_session *s)
{
	int err = s->result;

	s->completed = false;
	if (!is_greeting(s))
		err = vu_msg_finish(s, err);
	message_result(s, err);
}

/* msg_size or the descriptors make no sense: there is no next message. */
static void
stream_broken(struct vu_session *s)
{
	if (s->msg.got >= sizeof(s->msg.hdr)) {
		vu_reply_seal(s, -EINVAL);
		vu_reply_flush(s);
	}
	session_doom(s, "a malformed message");
}

/* Read a message on. False: nothing more can be done now. */
static bool
session_read(struct vu_session *s, size_t *bytes)
{
	int r = vu_msg_read(&s->msg, s->rfd.fd, bytes);

	if (r == 1) {
		s->messages++;
		message_handle(s);
		return true;
	}
	if (r == -EINPROGRESS)
		return true;
	if (r == 0 || r == -ECONNRESET) {
		log_debug(vfio_user, "%s: client %d left", s->l->cfg.path,
			  s->pid);
		s->doomed = true;
	} else if (r == -EPROTO) {
		stream_broken(s);
	} else if (r != -EAGAIN) {
		session_doom(s, strerror(-r));
	}
	return false;
}

/* Descriptors of its messages are being closed: nothing more is read until they are, or there would be more and more. */
static bool
session_closes(const struct vu_session *s)
{
	return s->trash || (s->irqs && irq_closing(s->irqs));
}

/* What the loop is to wait for. A hang-up is always told. */
static void
session_want(struct vu_session *s)
{
	uint32_t events = EPOLLIN;
	int err;

	if (s->out.len)
		events = EPOLLOUT;
	else if (s->busy || session_closes(s) || s->state == VU_HELD)
		events = 0;
	if (events == s->rfd.events)
		return;
	err = reactor_fd_mod(&s->rfd, events);
	if (err)
		session_doom(s, strerror(-err));
}

/*
 * Everything that is there, in order: one message at a time, and none while the
 * reply to the one before has not left. So one reply is all that ever waits.
 */
static void
session_io(struct vu_session *s)
{
	uint64_t until = util_now_ns() + VU_TIME_NS;
	unsigned budget = VU_BUDGET, steps = 0;
	size_t bytes = 0;

	while (!s->doomed) {
		int err = vu_reply_flush(s);
		bool late = steps++ >= VU_STEPS && util_now_ns() >= until;

		if (err == -EAGAIN)
			break;
		if (err) {
			session_doom(s, strerror(-err));
			break;
		}
		if (s->busy) {
			if (!s->completed || late)
				break; /* late: kicked when it completed */
			message_resume(s);
		} else if (s->state == VU_HELD) {
			err = session_greet(s);
			if (s->state == VU_HELD && err == -EAGAIN)
				break;
			message_result(s, err);
		} else if (session_closes(s) || late || !budget-- ||
			   bytes >= VU_BYTES) {
			break;
		} else if (!session_read(s, &bytes)) {
			break;
		}
	}
	if (!s->doomed)
		session_want(s);
}

static void
session_step(struct vu_session *s)
{
	if (s->state <= VU_SERVING && !s->doomed)
		session_io(s);
	if (s->state <= VU_SERVING && s->doomed)
		session_drop(s);
	if (s->state == VU_CLOSING)
		session_close(s);
	if (s->state == VU_DESTROYING && s->ioas_gone)
		s->state = VU_DEAD;
	/* A kick that is under way will be the last. */
	if (s->state == VU_DEAD && !s->kicked && !s->trash)
		session_free(s);
}

static void
session_ready(struct reactor_fd *f, uint32_t events)
{
	struct vu_session *s = container_of(f, struct vu_session, rfd);

	/* Where we do not read, the end of the stream is not read either. */
	if ((events & (EPOLLHUP | EPOLLERR)) && !(f->events & EPOLLIN))
		s->doomed = true;
	session_step(s);
}

static void
session_timeout(struct reactor_timer *t)
{
	struct vu_session *s = container_of(t, struct vu_session, timer);

	session_doom(s, "no VERSION came");
	session_step(s);
}

int
vu_session_create(struct vu_listener *l, int fd, int pid, int uid)
{
	struct vu_session *s = calloc(1, sizeof(*s));
	int err = -ENOMEM;

	if (!s)
		goto close_fd;
	s->l = l;
	s->pid = pid;
	s->uid = uid;
	s->kick.fn = kick_fn;
	s->timer.fire = session_timeout;
	s->op.done = vu_op_done;
	s->rfd = (struct reactor_fd){ .fd = fd,
				      .events = EPOLLIN,
				      .ready = session_ready };
	list_init(&s->held_node);
	vu_msg_init(&s->msg);
	vu_out_init(&s->out);
	err = reactor_timer_start(l->home, &s->timer, VU_VERSION_TIMEOUT_NS);
	if (err)
		goto free_s;
	err = reactor_fd_add(l->home, &s->rfd);
	if (err)
		goto stop_timer;
	list_push_back(&l->sessions, &s->node);
	l->count++;
	return 0;
stop_timer:
	reactor_timer_stop(&s->timer);
free_s:
	free(s);
close_fd:
	close(fd);
	return err;
}

bool
vu_client(const struct vu_listener *l, struct vu_client_info *out)
{
	const struct vu_session *s = l->active;

	if (!s || s->state != VU_SERVING || !s->ioas)
		return false;
	*out = (struct vu_client_info){
		.pid = s->pid,
		.uid = s->uid,
		.iommufd = s->caps.iommufd,
		.messages = s->messages,
		.limits = l->cfg.limits,
	};
	ioas_ctx_usage(s->ioas, &out->usage);
	return true;
}
