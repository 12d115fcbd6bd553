/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Descriptors and sleeping, both by epoll. Not for disks or doorbells: those are
 * polled.
 */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "belfry/log.h"
#include "internal.h"

int
events_init(struct reactor *r)
{
	struct epoll_event ev = { .events = EPOLLIN, .data.ptr = NULL };
	int err;

	r->wakefd = -1;
	r->epfd = epoll_create1(EPOLL_CLOEXEC);
	if (r->epfd < 0)
		return -errno;
	r->wakefd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (r->wakefd < 0) {
		err = -errno;
		goto close_epfd;
	}
	if (epoll_ctl(r->epfd, EPOLL_CTL_ADD, r->wakefd, &ev)) {
		err = -errno;
		goto close_wakefd;
	}
	return 0;
close_wakefd:
	close(r->wakefd);
close_epfd:
	close(r->epfd);
	return err;
}

void
events_fini(struct reactor *r)
{
	close(r->wakefd);
	close(r->epfd);
}

int
reactor_fd_add(struct reactor *r, struct reactor_fd *f)
{
	struct epoll_event ev = { .events = f->events, .data.ptr = f };

	if (epoll_ctl(r->epfd, EPOLL_CTL_ADD, f->fd, &ev))
		return -errno;
	f->reactor = r;
	r->nfds++;
	return 0;
}

int
reactor_fd_mod(struct reactor_fd *f, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = f };

	if (epoll_ctl(f->reactor->epfd, EPOLL_CTL_MOD, f->fd, &ev))
		return -errno;
	f->events = events;
	return 0;
}

void
reactor_fd_del(struct reactor_fd *f)
{
	struct reactor *r = f->reactor;

	if (!r)
		return;
	f->reactor = NULL;
	r->nfds--;
	if (epoll_ctl(r->epfd, EPOLL_CTL_DEL, f->fd, NULL))
		log_error("reactor: fd %d closed before it was removed: %m",
			  f->fd);
	/* It may be in the batch that is being served. */
	for (int i = r->ev_next; i < r->ev_len; i++) {
		if (r->ev[i].data.ptr == f)
			r->ev[i].events = 0;
	}
}

void
reactor_kick(struct reactor *r)
{
	uint64_t one = 1;
	int saved = errno;

	/* The exchange only when it may matter: senders share this line. */
	if (__atomic_load_n(&r->sleeping, __ATOMIC_SEQ_CST) &&
	    __atomic_exchange_n(&r->sleeping, 0, __ATOMIC_SEQ_CST))
		(void)!write(r->wakefd, &one, sizeof(one));
	errno = saved;
}

static int
wait_ns(struct reactor *r, uint64_t ns)
{
	struct timespec ts = { (time_t)(ns / 1000000000),
			       (long)(ns % 1000000000) };
	uint64_t ms;
	int n;

	if (!ns)
		return epoll_wait(r->epfd, r->ev, REACTOR_EVENTS, 0);
	n = epoll_pwait2(r->epfd, r->ev, REACTOR_EVENTS,
			 ns == UINT64_MAX ? NULL : &ts, NULL);
	if (n >= 0 || errno != ENOSYS)
		return n;
	/* Before Linux 5.11: in ms, upwards so as not to spin until then. */
	ms = ns == UINT64_MAX ? UINT64_MAX : DIV_ROUND_UP(ns, 1000000);
	return epoll_wait(r->epfd, r->ev, REACTOR_EVENTS,
			  ms > INT32_MAX ? -1 : (int)ms);
}

void
events_wait(struct reactor *r, uint64_t ns)
{
	int n = wait_ns(r, ns);

	r->ev_next = 0;
	r->ev_len = MAX(n, 0); /* EINTR is an early end, no more */
}

unsigned
events_dispatch(struct reactor *r)
{
	unsigned served = 0;
	uint64_t count;

	while (r->ev_next < r->ev_len) {
		struct epoll_event *ev = &r->ev[r->ev_next++];
		struct reactor_fd *f = ev->data.ptr;
		uint32_t events = ev->events;

		if (!f) {
			(void)!read(r->wakefd, &count, sizeof(count));
			continue;
		}
		if (!events)
			continue; /* removed meanwhile: do not look at it */
		/* A mod during the batch may have changed what it wants. */
		events &= f->events | EPOLLERR | EPOLLHUP;
		if (!events)
			continue;
		f->ready(f, events);
		served++;
	}
	r->ev_len = 0;
	return served;
}

unsigned
events_serve(struct reactor *r)
{
	events_wait(r, 0);
	return events_dispatch(r);
}
