/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What belfryctl prints: aligned tables, sizes, JSON; and the parsing of sizes that it reads.
 */
#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ctl.h"

#define MAX_COLUMNS 16

struct table {
	unsigned columns;
	bool right[MAX_COLUMNS];
	size_t width[MAX_COLUMNS];
	char ***rows;
	size_t nrows;
};

static void *
must(void *p)
{
	if (!p) {
		fprintf(stderr, "belfryctl: out of memory\n");
		exit(CTL_FAILED);
	}
	return p;
}

/* Characters, not bytes, of UTF-8. */
static size_t
width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static void
add_row(struct table *t, char **cells)
{
	t->rows = must(realloc(t->rows, (t->nrows + 1) * sizeof(*t->rows)));
	t->rows[t->nrows++] = cells;
	for (unsigned i = 0; i < t->columns; i++)
		t->width[i] = MAX(t->width[i], width(cells[i]));
}

struct table *
table_new(const char *headers)
{
	struct table *t = must(calloc(1, sizeof(*t)));
	char **cells = must(calloc(MAX_COLUMNS, sizeof(*cells)));
	char *copy = must(strdup(headers)), *save = NULL;

	for (char *h = strtok_r(copy, ",", &save);
	     h && t->columns < MAX_COLUMNS; h = strtok_r(NULL, ",", &save)) {
		size_t len = strlen(h);

		if (len && h[len - 1] == '>') {
			t->right[t->columns] = true;
			h[len - 1] = 0;
		}
		cells[t->columns++] = must(strdup(h));
	}
	free(copy);
	add_row(t, cells);
	return t;
}

void
table_row(struct table *t, const char *first, ...)
{
	char **cells = must(calloc(MAX_COLUMNS, sizeof(*cells)));
	const char *s = first;
	va_list ap;

	va_start(ap, first);
	for (unsigned i = 0; i < t->columns; i++) {
		cells[i] = must(strdup(s ? s : "-"));
		if (s)
			s = va_arg(ap, const char *);
	}
	va_end(ap);
	add_row(t, cells);
}

void
table_print(struct table *t, FILE *out)
{
	for (size_t r = 0; r < t->nrows; r++) {
		for (unsigned i = 0; i < t->columns; i++) {
			bool last = i + 1 == t->columns;
			char *cell = t->rows[r][i];
			int pad = (int)(t->width[i] - width(cell));

			fprintf(out, "%*s%s%*s%s", t->right[i] ? pad : 0, "",
				cell, t->right[i] || last ? 0 : pad, "",
				last ? "\n" : "  ");
			free(cell);
		}
		free(t->rows[r]);
	}
	free(t->rows);
	free(t);
}

const char *
ctl_fmt(const char *fmt, ...)
{
	static char bufs[24][256];
	static unsigned next;
	char *buf = bufs[next++ % ARRAY_SIZE(bufs)];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(bufs[0]), fmt, ap);
	va_end(ap);
	return buf;
}

const char *
ctl_size(uint64_t bytes)
{
	static const char *const unit[] = { "B",   "KiB", "MiB",
					    "GiB", "TiB", "PiB" };
	double v = (double)bytes;
	unsigned u = 0;

	while (v >= 1024 && u + 1 < ARRAY_SIZE(unit)) {
		v /= 1024;
		u++;
	}
	return ctl_fmt(v == (double)(uint64_t)v ? "%.0f %s" : "%.1f %s", v,
		       unit[u]);
}

void
ctl_print_json(const json_t *v)
{
	json_dumpf(v, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
	putchar('\n');
}

bool
ctl_parse_size(const char *s, const char *what, uint64_t *out)
{
	return !util_parse_size(s, out) ||
	       util_complain(
		       "%s '%s' is not a size; write bytes or 64K, 512M, 10G, 1T",
		       what, s);
}

bool
ctl_parse_u32(const char *s, const char *what, uint32_t *out)
{
	uint64_t v;

	if (util_parse_u64(s, &v) || v > UINT32_MAX)
		return util_complain("%s '%s' is not a number from 0 to %u",
				     what, s, UINT32_MAX);
	*out = (uint32_t)v;
	return true;
}

bool
ctl_parse_interval(const char *s, double *out)
{
	char *end;

	if (!s)
		return true;
	*out = strtod(s, &end);
	if (!*end && *out >= 0.1 && *out <= 3600)
		return true;
	return util_complain(
		"interval '%s' is not a number of seconds from 0.1 to 3600", s);
}

void
ctl_sleep(double seconds)
{
	struct timespec ts = { (time_t)seconds,
			       (long)((seconds - (double)(time_t)seconds) *
				      1e9) };

	nanosleep(&ts, NULL);
}

static char *
whole_path(const char *path)
{
	char *whole = realpath(path, NULL), *a, *b, *dir;

	if (whole)
		return whole;
	a = must(strdup(path));
	b = must(strdup(path));
	dir = realpath(dirname(a), NULL);
	if (!dir || asprintf(&whole, "%s/%s", dir, basename(b)) < 0)
		whole = must(strdup(path));
	free(dir);
	free(a);
	free(b);
	return whole;
}

char *
ctl_path(const char *path)
{
	char *whole = whole_path(path);
	json_t *s = json_string(whole);

	/* where we are, or where a link leads, may have any name */
	if (!s) {
		util_complain("the whole path of '%s' is no UTF-8", path);
		exit(CTL_FAILED);
	}
	json_decref(s);
	return whole;
}
