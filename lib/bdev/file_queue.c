/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files: what waits for the kernel on a reactor. Data path.
 * Not here: how it is sent and reaped (aio.c, uring.c).
 */
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "belfry/log.h"
#include "file.h"

#define DISK_BUSY 64 /* I/Os: a disk that has so many is not idle soon */
#define TOGETHER 2u  /* the kernel starts each at once */

/*
 * May one more of @ch go to the kernel? A disk may have as many there as are
 * still free, not all of them: so it takes many disks that hang (12 of 4096) until
 * another one finds no room.
 */
static bool
has_room(const struct file_queue *q, const struct file_ch *ch)
{
	return ch->used + q->queued + q->inflight < q->depth;
}

static void
queue(struct file_queue *q, struct file_ch *ch, struct bdev_io *io)
{
	ch->used++;
	q->list[q->queued++] = &file_req_of(io)->cb;
}

void
file_enqueue(struct file_queue *q, struct bdev_io *io)
{
	struct file_req *r = file_req_of(io);
	struct file_ch *ch = file_ch_of(io);

	r->armed = false;
	r->cb.data = io;
	if (likely(has_room(q, ch) && list_empty(&ch->waiting))) {
		queue(q, ch, io);
		return;
	}
	list_push_back(&ch->waiting, &io->node);
	if (list_empty(&ch->node))
		list_push_back(&q->waiting, &ch->node);
}

/* One of each disk that has some waiting and room, in turn; false: none went. */
static bool
refill_turn(struct file_queue *q)
{
	struct file_ch *ch, *tmp;
	bool any = false;

	list_for_each_safe(ch, tmp, &q->waiting, node) {
		struct bdev_io *io =
			list_first(&ch->waiting, struct bdev_io, node);

		if (!has_room(q, ch))
			continue;
		list_remove(&io->node);
		queue(q, ch, io);
		any = true;
		if (list_empty(&ch->waiting))
			list_remove(&ch->node);
	}
	return any;
}

static void
refill(struct file_queue *q)
{
	while (refill_turn(q))
		;
	/* Not always the same disks shall come first. */
	if (!list_empty(&q->waiting)) {
		struct file_ch *ch =
			list_first(&q->waiting, struct file_ch, node);

		list_remove(&ch->node);
		list_push_back(&q->waiting, &ch->node);
	}
}

/* The first @n of the queue have left it. */
static void
shift_queue(struct file_queue *q, unsigned n)
{
	q->queued -= n;
	if (q->queued)
		memmove(q->list, q->list + n, q->queued * sizeof(*q->list));
}

static bool
is_made_up(const struct bdev_io *io)
{
	return io->op == BDEV_WRITE && io->faulted && io->faulted(io);
}

/*
 * A client may have truncated its memory since the write was queued: what would
 * be written are zeros that we put there. Until the kernel has it, it can be stopped.
 * Looks at the first @count; gives how many of them are left.
 */
static unsigned
drop_made_up(struct file_queue *q, unsigned count)
{
	unsigned n = 0;
	struct list bad;

	list_init(&bad);
	for (unsigned i = 0; i < count; i++) {
		struct bdev_io *io = q->list[i]->data;

		if (unlikely(is_made_up(io))) {
			file_ch_of(io)->used--;
			list_push_back(&bad, &io->node);
		} else {
			q->list[n++] = q->list[i];
		}
	}
	if (likely(n == count))
		return n;
	q->queued -= count - n;
	memmove(q->list + n, q->list + count,
		(q->queued - n) * sizeof(*q->list));
	while (!list_empty(&bad)) {
		struct bdev_io *io = list_first(&bad, struct bdev_io, node);

		list_remove(&io->node);
		file_result(io, -EFAULT);
	}
	return n;
}

/*
 * How many go with this round. The kernel holds a list of more than two back until
 * it has gone through all of it, about 3 us for each. A disk with less to do than that
 * runs dry, finishes what it gets in one go, and the next list is as long again: 32
 * writes went to and fro in two halves, at 0.74 of the rate. Then they go two a round,
 * and the disk works on the first while the kernel prepares the next.
 */
static unsigned
batch(const struct file_queue *q)
{
	bool busy = q->inflight >= DISK_BUSY || q->queued <= q->inflight / 4;

	return busy ? q->queued : MIN(q->queued, TOGETHER);
}

unsigned
file_queue_next(struct file_queue *q)
{
	if (unlikely(!list_empty(&q->waiting)))
		refill(q);
	while (q->queued) {
		unsigned count = drop_made_up(q, batch(q));

		if (likely(count))
			return count;
	}
	return 0;
}

void
file_queue_sent(struct file_queue *q, unsigned n)
{
	q->inflight += n;
	shift_queue(q, n);
}

void
file_queue_refused(struct file_queue *q, int err)
{
	struct bdev_io *io = q->list[0]->data;

	file_ch_of(io)->used--;
	shift_queue(q, 1);
	file_result(io, err);
}

void
file_queue_done(struct file_queue *q, struct bdev_io *io, int64_t res)
{
	q->inflight--;
	file_ch_of(io)->used--;
	file_result(io, res);
}

/* Only to wake the reactor: the poller reaps. */
static void
efd_ready(struct reactor_fd *f, uint32_t events)
{
	uint64_t n;

	if (read(f->fd, &n, sizeof(n)) != sizeof(n) && errno != EAGAIN)
		log_error("bdev: reading an eventfd: %s",
			  strerrordesc_np(errno));
}

int
file_queue_init(struct file_queue *q, struct bdev_reactor *br, unsigned depth)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

	q->efd = (struct reactor_fd){ .fd = fd,
				      .events = EPOLLIN,
				      .ready = efd_ready };
	q->br = br;
	q->depth = depth;
	list_init(&q->waiting);
	bounce_init(&q->bounce, br->reactor);
	if (fd < 0)
		return -errno;
	q->list = reactor_mem_alloc(br->reactor, depth * sizeof(*q->list));
	return q->list ? reactor_fd_add(br->reactor, &q->efd) : -ENOMEM;
}

void
file_queue_fini(struct file_queue *q)
{
	if (!q->br)
		return;
	if (q->efd.reactor)
		reactor_fd_del(&q->efd);
	if (q->efd.fd >= 0)
		close(q->efd.fd);
	if (q->list)
		reactor_mem_free(q->list, q->depth * sizeof(*q->list));
	bounce_fini(&q->bounce);
}
